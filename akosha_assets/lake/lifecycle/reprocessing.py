"""Reprocesses rows of warm and cold with the current methods: summaries, missing vectors, int8 vectors of an old form.

A summary needs the whole text, so it is made only where warm keeps it. A missing vector is made from the whole text, or
from the summary where there is no text. An int8 vector is converted from its own numbers. A sketch cannot be converted.
Rows that cannot be reprocessed are counted in `left`.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from akosha_assets.lake import days, quoting
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.embeddings import Embedder
from akosha_assets.lake.lifecycle import cold, day_rows, passage_forms, quantization, warm
from akosha_assets.lake.lifecycle.moving import Aged, record
from akosha_assets.lake.lifecycle.placement import address
from akosha_assets.lake.lifecycle.policy import TierPolicy
from akosha_assets.lake.passages import CutTexts
from akosha_assets.lake.tiers import Tier

# The methods of policies that were stored before policies named them.
_BEFORE_NAMES = {"vector_method": quantization.INT8_METHOD, "sketch_method": quantization.SKETCH_METHOD}


@dataclass(frozen=True)
class ReprocessableDay:
    """The rows of a day that can be reprocessed, by step; `left`: rows of an old method or model that cannot."""

    resummarised: int = 0
    embedded: int = 0
    requantised: int = 0
    left: int = 0

    @property
    def is_work(self) -> bool:
        """Whether any row can be reprocessed."""
        return bool(self.resummarised or self.embedded or self.requantised)


@dataclass(frozen=True)
class ReprocessedDay:
    """The rows of a day that were reprocessed, by step."""

    event_day: date
    tier: str
    rows_resummarised: int
    rows_embedded: int
    rows_requantised: int
    rows_left: int


def reprocessable_days(
    lake: Lake, tier: str, policy: TierPolicy, *, first: date, last: date, space: str | None
) -> dict[date, ReprocessableDay]:
    """The rows that can be reprocessed, by day from `first` to `last`. `space`: that of the available model, if any."""
    former = quoting.literals(_former_policies(lake, tier, policy))
    other_method = f"summary_method <> {quoting.literals([policy.summary_method])}"
    other_form = f"policy_version IN ({former})" if former else "false"
    other_space = f"space <> {quoting.literals([space])}" if space else "false"
    if tier == Tier.WARM:
        conditions = {
            "resummarised": f"text IS NOT NULL AND {other_method}",
            "embedded": f"space IS NULL OR (text IS NOT NULL AND {other_space})" if space else "",
            "requantised": f"vector IS NOT NULL AND {other_form}" if former else "",
            "left": f"text IS NULL AND ({other_method} OR {other_space})",
        }
    else:
        conditions = {
            "embedded": "space IS NULL" if space else "",
            "left": f"{other_method} OR {other_space} OR (sketch IS NOT NULL AND {other_form})",
        }
    between = f"event_day >= '{first}' AND event_day <= '{last}'"
    counts: dict[date, dict[str, int]] = {}
    for name, where in conditions.items():
        rows = lake.select(address(tier), ["event_day"], f"{between} AND ({where})") if where else None
        for entry in rows["event_day"].value_counts().to_pylist() if rows is not None else ():
            counts.setdefault(entry["values"], {})[name] = entry["counts"]
    return {day: ReprocessableDay(**counts[day]) for day in sorted(counts)}


def reprocess_day(
    lake: Lake,
    tier: str,
    event_day: date,
    *,
    policy: TierPolicy,
    renewed_at: datetime,
    run: str,
    embedder: Embedder | None,
) -> ReprocessedDay:
    """Reprocesses the rows of `event_day` in `tier`, which is warm or cold, as far as possible.

    Without an embedder no vectors are made; rows that need one are counted as left.

    Raises:
        TableContended: another writer changed the day meanwhile; nothing was changed.
    """
    table, spec = lake.create(address(tier)), lake.spec(address(tier))
    space = embedder.space if embedder else lake.settings.embedding_model
    todo = reprocessable_days(lake, tier, policy, first=event_day, last=event_day, space=space).get(
        event_day, ReprocessableDay()
    )
    if embedder is None:
        todo = replace(todo, embedded=0, left=todo.left + todo.embedded)
    if todo.is_work:
        move = warm.Move(policy, renewed_at, run)
        former = pa.array(_former_policies(lake, tier, policy), pa.string())
        bare: list[int] = []

        def renewed() -> Iterator[pa.RecordBatch]:
            for batch in day_rows.rebatched(days.stream(table, spec, spec.schema.names, days.predicate(event_day))):
                rows = _requantised(batch, former, move) if todo.requantised else batch
                rows = warm.summarise_again(rows, move) if todo.resummarised else rows
                rows = _embedded(rows, tier, embedder) if embedder is not None else rows
                bare.append(rows["space"].null_count)
                yield rows

        days.replace(
            table,
            spec,
            renewed(),
            days.predicate(event_day),
            writer=f"age/{event_day}",
            metadata={"akosha_op": "renew"},
        )
        rows = day_rows.count_rows(table, [event_day]).get(event_day, 0)
        renewed_day = Aged(event_day=event_day, tier=tier, rows=rows, rows_without_vector=sum(bare))
        record(lake.create(address("moves")), [renewed_day], move)
    return ReprocessedDay(event_day, tier, todo.resummarised, todo.embedded, todo.requantised, todo.left)


def _former_policies(lake: Lake, tier: str, policy: TierPolicy) -> list[str]:
    """Versions of policies under which rows came to `tier` with vectors in another form than the present one."""
    name = "vector_method" if tier == Tier.WARM else "sketch_method"
    known = lake.select(address("moves"), ["policy_version", "policy"], f"tier = '{tier}'")
    policies = {
        row["policy_version"]: json.loads(row["policy"])
        for row in known.group_by(["policy_version", "policy"]).aggregate([]).to_pylist()
    }
    return sorted(
        version
        for version, former in policies.items()
        if former.get(name, _BEFORE_NAMES[name]) != getattr(policy, name)
    )


def _requantised(rows: pa.RecordBatch, former: pa.Array, move: warm.Move) -> pa.RecordBatch:
    """Warm `rows` with the vectors of `former` policies converted to the current form, from their int8 numbers."""
    chosen = pc.and_(pc.is_in(rows["policy_version"], value_set=former), pc.is_valid(rows["vector"]))
    vectors, scale = warm.int8_form(rows["vector"], lambda numbers: cold.floats(rows, numbers))
    made = {
        "vector": vectors,
        "vector_scale": scale,
        **passage_forms.convert(rows, quantization.to_int8),
        **{k: v for k, v in warm.constants(move, rows.num_rows).items() if k != "summary_method"},
    }
    columns = [
        pc.if_else(chosen, made[name].cast(rows[name].type), rows[name]) if name in made else rows[name]
        for name in rows.schema.names
    ]
    return pa.RecordBatch.from_arrays(columns, schema=rows.schema)


def _embedded(rows: pa.RecordBatch, tier: str, embedder: Embedder) -> pa.RecordBatch:
    """The rows with new vectors where they had none, or where their whole text has a vector of another space."""
    wanted = pc.is_null(rows["space"])
    if tier == Tier.WARM:
        other = pc.fill_null(pc.not_equal(rows["space"], embedder.space), False)
        wanted = pc.or_(wanted, pc.and_(pc.is_valid(rows["text"]), other))
    numbers = np.flatnonzero(wanted.to_numpy(zero_copy_only=False))
    if not len(numbers):
        return rows
    chosen = rows.take(pa.array(numbers))
    texts = pc.coalesce(chosen["text"], chosen["summary"]) if tier == Tier.WARM else chosen["summary"]
    is_whole = pc.is_valid(chosen["text"]) if tier == Tier.WARM else pa.repeat(False, len(numbers))
    cut = CutTexts.cut(embedder, texts.to_pylist())
    convert = quantization.to_int8 if tier == Tier.WARM else quantization.to_sketch
    made, scale = convert(embedder.embed(cut.first))
    passages, passage_scales = convert(embedder.embed(cut.others))
    form, measure = cold.SKETCH_COLUMNS if tier != Tier.WARM else ("vector", "vector_scale")
    scales = np.zeros(rows.num_rows, np.float32)
    scales[numbers] = scale
    of_passages = {
        "passages": cut.split(passages),
        "passage_scales": cut.split(passage_scales.astype("<f4")),
        "passage_ranges": cut.ranges,
    }
    # A passage of a summary is none of the text.
    of_passages = {
        name: pc.if_else(is_whole, pa.array(values, pa.binary()), pa.scalar(None, pa.binary()))
        for name, values in of_passages.items()
    }
    columns = {
        form: pc.if_else(wanted, quantization.scatter(rows.num_rows, [(numbers, made)]), rows[form]),
        measure: pc.if_else(wanted, pa.array(scales), rows[measure]),
        "space": pc.if_else(wanted, embedder.space, rows["space"]),
        **{name: pc.replace_with_mask(rows[name], wanted, values) for name, values in of_passages.items()},
    }
    return pa.RecordBatch.from_arrays([columns.get(name, rows[name]) for name in rows.schema.names], schema=rows.schema)
