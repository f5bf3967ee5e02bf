"""How a path names a memory. Starlette's own `path` ends at a newline, which an id may hold."""

from starlette.convertors import PathConvertor, register_url_convertor

MEMORY = "{system_id}/{kind}/{id:any}"


class AnyText(PathConvertor):
    """The rest of the path: every character, slashes and newlines among them."""

    regex = "(?s:.*)"


register_url_convertor("any", AnyText())
