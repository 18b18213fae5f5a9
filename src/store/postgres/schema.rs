//! The tables of the database, and how older ones become newer ones.

/// The steps from each layout to the next. A database has as many behind it as its table `layout` says.
pub(super) const MIGRATIONS: &[&str] = &[LAYOUT_1, LAYOUT_2];

/// As in SQLite, but for the journal, which has a row for each room and flush: a room that changes hands takes its rows with it. Texts
/// that are read back to the byte are `text`, not `jsonb`, which would rearrange them.
const LAYOUT_1: &str = "
CREATE TABLE layout(one bigint PRIMARY KEY CHECK(one = 1), version bigint NOT NULL);
INSERT INTO layout VALUES(1, 0);
CREATE TABLE protocol(fingerprint bigint PRIMARY KEY, description text NOT NULL);
CREATE TABLE room(
  room_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL UNIQUE,
  uid text NOT NULL,
  header text NOT NULL,            -- what it was created from
  fingerprint bigint NOT NULL,     -- the protocol that wrote it last
  sealed_tick bigint,              -- everything up to here is in chunks; the journal has the rest
  sealed_seq bigint,
  chain bytea NOT NULL,            -- the head of the chain of hashes after it
  components_tick bigint,          -- the tick whose values `component` has
  header_sum bigint NOT NULL,
  sum bigint NOT NULL              -- over fingerprint, sealed_tick, sealed_seq and chain
) WITH (fillfactor = 50);
-- The ticks that are not in chunks yet: a row for each room and flush. A token of 0: without a lease.
CREATE TABLE journal(
  room_id bigint NOT NULL, host text NOT NULL, flush bigint NOT NULL, token bigint NOT NULL, sum bigint NOT NULL, frame bytea NOT NULL,
  PRIMARY KEY(room_id, host, flush));
CREATE INDEX journal_of_host ON journal(host, flush);
-- The last flush of each host, and which of its processes writes: only that one can.
CREATE TABLE mark(host text PRIMARY KEY, run uuid NOT NULL, flush bigint NOT NULL) WITH (fillfactor = 10);
-- A JSON array: {t: tick, k: kind, p: producer, a: author, c: command, w: the fact that caused it, d: data, h: hash}
CREATE TABLE fact_chunk(
  room_id bigint NOT NULL, seq_from bigint NOT NULL, seq_to bigint NOT NULL, tick_from bigint NOT NULL, tick_to bigint NOT NULL,
  fingerprint bigint NOT NULL, sum bigint NOT NULL, payload text NOT NULL,
  PRIMARY KEY(room_id, seq_from), CHECK(seq_to >= seq_from));
-- A JSON array: {t: tick, k: kind of command, a: author, c: command, r: reason, m: detail, d: data, h: hash}
CREATE TABLE refusal_chunk(
  room_id bigint NOT NULL, seq_from bigint NOT NULL, seq_to bigint NOT NULL, tick_from bigint NOT NULL, tick_to bigint NOT NULL,
  fingerprint bigint NOT NULL, sum bigint NOT NULL, payload text NOT NULL,
  PRIMARY KEY(room_id, seq_from));
-- Batches, in the form that they have on the wire, and what was taken in; packed.
CREATE TABLE tick_chunk(
  room_id bigint NOT NULL, seq_from bigint NOT NULL, seq_to bigint NOT NULL, tick_from bigint NOT NULL, tick_to bigint NOT NULL,
  fingerprint bigint NOT NULL, sum bigint NOT NULL, payload bytea NOT NULL,
  PRIMARY KEY(room_id, seq_from));
-- Packed already.
ALTER TABLE tick_chunk ALTER payload SET STORAGE EXTERNAL;
CREATE TABLE checkpoint(
  room_id bigint NOT NULL, tick bigint NOT NULL, resumed boolean NOT NULL, fingerprint bigint NOT NULL,
  sum bigint NOT NULL, payload bytea NOT NULL, PRIMARY KEY(room_id, tick));
ALTER TABLE checkpoint ALTER payload SET STORAGE EXTERNAL;
-- The state, as JSON. A row without a component name says that the entity is there.
CREATE TABLE component(
  room_id bigint NOT NULL, entity_id text NOT NULL, component_name text NOT NULL, component text NOT NULL,
  PRIMARY KEY(room_id, entity_id, component_name)) WITH (fillfactor = 70);
CREATE TABLE snippet_label(
  room_id bigint NOT NULL, label text NOT NULL, tick bigint NOT NULL, members text NOT NULL, PRIMARY KEY(room_id, label));
CREATE TABLE snippet(
  room_id bigint NOT NULL, label text NOT NULL, entity_id text NOT NULL, component_name text NOT NULL, component text NOT NULL,
  PRIMARY KEY(room_id, label, entity_id, component_name));
CREATE TABLE projection(
  name text NOT NULL, room_id bigint NOT NULL, seq bigint NOT NULL, memory bytea NOT NULL, PRIMARY KEY(name, room_id));
CREATE TABLE request(
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, room_id bigint NOT NULL, kind text NOT NULL, subject text NOT NULL, answer text);
CREATE INDEX request_open ON request(id) WHERE answer IS NULL;
-- The hosts, and where clients reach them.
CREATE TABLE host(
  id text PRIMARY KEY, address text NOT NULL, heartbeat timestamptz NOT NULL,
  rooms bigint NOT NULL, rooms_max bigint NOT NULL, members bigint NOT NULL, members_max bigint NOT NULL) WITH (fillfactor = 50);
-- Which host has which room. The token grows each time the room changes hands, and never goes back. No host: it was given back.
CREATE TABLE lease(
  room text PRIMARY KEY, host text, token bigint NOT NULL, expires timestamptz NOT NULL) WITH (fillfactor = 50);
CREATE INDEX lease_of_host ON lease(host);
-- JSON may hold the character 0, which no text of PostgreSQL can: the views show another one.
CREATE VIEW fact AS
  SELECT room.name AS room, c.seq_from + j.place - 1 AS seq, (j.item->>'t')::bigint AS tick, j.item->>'k' AS kind, j.item->>'p' AS producer,
         j.item->>'a' AS author, (j.item->>'c')::bigint AS command, (j.item->>'w')::bigint AS cause, j.item->'d' AS data
  FROM fact_chunk c JOIN room USING(room_id),
       json_array_elements(replace(c.payload, '\\u0000', '\\ufffd')::json) WITH ORDINALITY j(item, place);
CREATE VIEW refusal AS
  SELECT room.name AS room, (j.item->>'t')::bigint AS tick, j.item->>'a' AS author, (j.item->>'c')::bigint AS command, j.item->>'k' AS kind,
         j.item->>'r' AS reason, j.item->>'m' AS detail, j.item->'d' AS data
  FROM refusal_chunk c JOIN room USING(room_id),
       json_array_elements(replace(c.payload, '\\u0000', '\\ufffd')::json) WITH ORDINALITY j(item, place);
CREATE VIEW state AS
  SELECT room.name AS room, entity_id, component_name, replace(component, '\\u0000', '\\ufffd')::json AS component, components_tick AS tick
  FROM component JOIN room USING(room_id) WHERE component_name <> '';
";

/// Rooms can be deleted. Those that were there before count as used when the database came to know of it.
const LAYOUT_2: &str = "
ALTER TABLE room ADD COLUMN used timestamptz NOT NULL DEFAULT now();  -- when something was last written of it
-- How many rooms were deleted.
CREATE TABLE deleted(one bigint PRIMARY KEY CHECK(one = 1), rooms bigint NOT NULL);
INSERT INTO deleted VALUES(1, 0);
-- The numbers of those of which there still are rows.
CREATE TABLE leftover(room_id bigint PRIMARY KEY);
";
