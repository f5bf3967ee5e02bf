-- The tables and indexes of knowledge_graph.duckdb as Session-Buddy 0.23 makes them, in DuckDB's own rendering.
CREATE TABLE kg_entities(id VARCHAR PRIMARY KEY, "name" VARCHAR NOT NULL, entity_type VARCHAR NOT NULL, observations VARCHAR[], properties JSON, created_at TIMESTAMP DEFAULT(CURRENT_TIMESTAMP), updated_at TIMESTAMP DEFAULT(CURRENT_TIMESTAMP), metadata JSON, embedding FLOAT[384]);
CREATE TABLE kg_relationships(id VARCHAR PRIMARY KEY, from_entity VARCHAR NOT NULL, to_entity VARCHAR NOT NULL, relation_type VARCHAR NOT NULL, properties JSON, created_at TIMESTAMP DEFAULT(CURRENT_TIMESTAMP), updated_at TIMESTAMP DEFAULT(CURRENT_TIMESTAMP), metadata JSON);
CREATE INDEX idx_entities_name ON kg_entities("name");
CREATE INDEX idx_entities_type ON kg_entities(entity_type);
CREATE INDEX idx_relationships_from ON kg_relationships(from_entity);
CREATE INDEX idx_relationships_to ON kg_relationships(to_entity);
CREATE INDEX idx_relationships_type ON kg_relationships(relation_type);
