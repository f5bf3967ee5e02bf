"""The catalogue of topics is large, unambiguous, and its queries are about the topics that they are judged for."""

from akosha_assets.fleet.topics import judged_queries, topic_of, topics


def test_the_catalogue_is_large_and_complete() -> None:
    assert len(topics()) >= 60
    for topic in topics():
        assert len(topic.symptoms) >= 3 and len(topic.queries) >= 2, topic.id
        assert all((topic.error, topic.where, topic.identifier, *topic.technologies)), topic.id


def test_every_phrase_belongs_to_one_topic_and_fits_into_a_sentence() -> None:
    for topic in topics():
        for phrase in topic.phrases():
            assert topic_of(f"In orders {phrase}, since today.") == topic.id
            assert not phrase.endswith("."), phrase


def test_any_other_text_has_no_topic() -> None:
    assert topic_of("The weather in Lisbon is fine.") is None


def test_judged_queries_are_the_same_for_the_same_seed_and_name_existing_topics() -> None:
    queries = judged_queries(3)
    assert queries == judged_queries(3)
    assert queries != judged_queries(4)
    known = {topic.id for topic in topics()}
    assert all(set(query.topic_ids) <= known and query.topic_ids for query in queries)
    assert {topic_id for query in queries for topic_id in query.topic_ids} == known


def test_paraphrases_share_no_phrase_with_the_memories_that_answer_them() -> None:
    for query in judged_queries(paraphrases_only=True):
        assert query.style == "paraphrase"
        assert topic_of(query.text) is None, query.text
