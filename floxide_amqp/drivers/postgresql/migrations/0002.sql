-- Applies a group of batches that have nothing in common, if all of its checks hold; else changes nothing and answers
-- null. Texts and values are given once, and are meant by their numbers (counted from 1) in rows of so many numbers:
--
--   homes    slot, partition                           others name it by where its row begins
--   checks   home, name, version of the cell           -1: any
--   adds     home, name, amount
--   whens    place of an add, value                    whether it is now so decides over two branches
--   puts     home, name, value, branch
--   appends  home, name, value, place of the value among those for this log, from 0
--   leaves   slot, index, entry, branch
--   enters   slot, index, entry, branch, value
--
-- Branch 1 is taken always, 2 and 3 are those of the first row of whens, 4 and 5 those of the next. No row may depend on
-- another: no cell, counter, log or entry is written twice, on whichever branches are taken. The answer is the time,
-- and the counters and positions in the order of adds and appends.
CREATE FUNCTION {schema}.commit_disjoint_1(
  locks bigint[], given bytea[], homes integer[], checks bigint[], adds bigint[], whens bigint[],
  puts integer[], appends integer[], leaves integer[], enters integer[]
) RETURNS bigint[] LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
  counts bigint[] := ARRAY[]::bigint[];
  positions bigint[] := ARRAY[]::bigint[];
  taken boolean[] := ARRAY[true];
  is_so boolean;
BEGIN
  -- In the order given, which is the same for every group. Each statement after this one sees all that was committed
  -- by those who held the locks before: a volatile function takes a new snapshot for each.
  PERFORM pg_advisory_xact_lock(wanted) FROM unnest(locks) AS wanted;

  IF EXISTS (
    SELECT FROM generate_series(1, cardinality(checks), 3) AS i
    CROSS JOIN LATERAL (
      SELECT coalesce((SELECT t.version FROM {schema}.cells t
                       WHERE t.slot = homes[checks[i]] AND t.partition = given[homes[checks[i] + 1]]
                         AND t.name = given[checks[i + 1]]), 0) AS version OFFSET 0) AS found
    WHERE found.version <> checks[i + 2] AND (checks[i + 2] <> -1 OR found.version = 0)
  ) THEN
    RETURN NULL;
  END IF;

  -- One row at a time goes in and comes back, so values come back in the order in which they go in.
  IF cardinality(adds) > 0 THEN
    WITH changed AS (
      INSERT INTO {schema}.counters AS t (slot, partition, name, value)
        SELECT homes[adds[i]], given[homes[adds[i] + 1]], given[adds[i + 1]], adds[i + 2]
        FROM generate_series(1, cardinality(adds), 3) AS i
        ON CONFLICT (slot, partition, name) DO UPDATE SET value = t.value + excluded.value
        RETURNING t.value)
    SELECT array_agg(value) INTO counts FROM changed;
  END IF;
  FOR i IN 1 .. cardinality(whens) BY 2 LOOP
    is_so := counts[whens[i]] = whens[i + 1];
    taken := taken || ARRAY[is_so, NOT is_so];
  END LOOP;
  IF cardinality(puts) > 0 THEN
    INSERT INTO {schema}.cells AS t (slot, partition, name, version, value)
      SELECT homes[puts[i]], given[homes[puts[i] + 1]], given[puts[i + 1]], 1, given[puts[i + 2]]
      FROM generate_series(1, cardinality(puts), 4) AS i
      WHERE taken[puts[i + 3]]
      ON CONFLICT (slot, partition, name) DO UPDATE SET version = t.version + 1, value = excluded.value;
  END IF;
  IF cardinality(appends) > 0 THEN
    WITH added AS (
      INSERT INTO {schema}.log_entries AS t (slot, partition, name, position, value)
        SELECT homes[appends[i]], given[homes[appends[i] + 1]], given[appends[i + 1]],
          coalesce(
            (SELECT e.position + 1 FROM {schema}.log_entries e
             WHERE e.slot = homes[appends[i]] AND e.partition = given[homes[appends[i] + 1]]
               AND e.name = given[appends[i + 1]]
             ORDER BY e.position DESC LIMIT 1),
            (SELECT s.start FROM {schema}.log_starts s
             WHERE s.slot = homes[appends[i]] AND s.partition = given[homes[appends[i] + 1]]
               AND s.name = given[appends[i + 1]]),
            0) + appends[i + 3],
          given[appends[i + 2]]
        FROM generate_series(1, cardinality(appends), 4) AS i
        RETURNING t.position)
    SELECT array_agg(position) INTO positions FROM added;
  END IF;
  IF cardinality(leaves) > 0 THEN
    DELETE FROM {schema}.index_entries t
      -- Not a series: the planner takes that for a thousand rows, and would rather pass over all of a table of ten.
      USING unnest(leaves) WITH ORDINALITY AS u(slot, i)
      WHERE u.i % 4 = 1 AND taken[leaves[u.i + 3]]
        AND t.name = given[leaves[u.i + 1]] AND t.entry = given[leaves[u.i + 2]] AND t.slot = u.slot;
  END IF;
  IF cardinality(enters) > 0 THEN
    INSERT INTO {schema}.index_entries AS t (name, entry, slot, value)
      SELECT given[enters[i + 1]], given[enters[i + 2]], enters[i], given[enters[i + 4]]
      FROM generate_series(1, cardinality(enters), 5) AS i
      WHERE taken[enters[i + 3]]
      ORDER BY 1, 2, 3  -- no partition's lock guards them: all lock the rows in one order
      ON CONFLICT (name, entry, slot) DO UPDATE SET value = excluded.value;
  END IF;
  RETURN (floor(extract(epoch FROM clock_timestamp()) * 1000))::bigint || counts || positions;
END
$$;

-- Answers many reads from one snapshot, that of the statement that calls it. Texts are given as above; what is asked for
-- comes in rows of so many numbers:
--
--   cells     slot, partition, name                    logs    slot, partition, name, first position, limit
--   counters  slot, partition, name                    ranges  slot, index, after, before, limit, way
--
-- Ways are 0 forwards, 1 backwards, 2 forwards and 3 backwards over all slots, whatever the slot is.
--
-- Rows by `kind`, with the number of what they answer: 0 the time, 1 a cell that is there (version, value), 2 a counter
-- that is there (value), 3 a log (first position returned, next position), 4 an entry of a log (position, value), 5 an
-- entry of a range (slot, key, value).
CREATE FUNCTION {schema}.read_group_2(
  given bytea[], cells integer[], counters integer[], logs bigint[], ranges bigint[]
) RETURNS TABLE (kind integer, number integer, one bigint, two bigint, key bytea, value bytea)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
  nothing CONSTANT bytea := ''::bytea;
  kept_from bigint;
  next_position bigint;
BEGIN
  kind := 0; number := 0; two := 0; key := nothing; value := nothing;
  one := floor(extract(epoch FROM clock_timestamp()) * 1000);
  RETURN NEXT;
  IF cardinality(cells) > 0 THEN
    RETURN QUERY
      SELECT 1, i / 3, found.version, 0::bigint, nothing, found.value
      FROM generate_series(1, cardinality(cells), 3) AS i
      CROSS JOIN LATERAL (
        SELECT t.version, t.value FROM {schema}.cells t
        WHERE t.slot = cells[i] AND t.partition = given[cells[i + 1]] AND t.name = given[cells[i + 2]] LIMIT 1) AS found;
  END IF;
  IF cardinality(counters) > 0 THEN
    RETURN QUERY
      SELECT 2, i / 3, found.value, 0::bigint, nothing, nothing
      FROM generate_series(1, cardinality(counters), 3) AS i
      CROSS JOIN LATERAL (
        SELECT t.value FROM {schema}.counters t
        WHERE t.slot = counters[i] AND t.partition = given[counters[i + 1]] AND t.name = given[counters[i + 2]]
        LIMIT 1) AS found;
  END IF;
  FOR i IN 1 .. cardinality(logs) BY 5 LOOP
    kept_from := coalesce((SELECT t.start FROM {schema}.log_starts t
      WHERE t.slot = logs[i] AND t.partition = given[logs[i + 1]] AND t.name = given[logs[i + 2]]), 0);
    next_position := coalesce((SELECT t.position + 1 FROM {schema}.log_entries t
      WHERE t.slot = logs[i] AND t.partition = given[logs[i + 1]] AND t.name = given[logs[i + 2]]
      ORDER BY t.position DESC LIMIT 1), kept_from);
    kept_from := greatest(kept_from, logs[i + 3]);
    kind := 3; number := i / 5; one := kept_from; two := next_position; key := nothing; value := nothing;
    RETURN NEXT;
    IF kept_from < next_position AND logs[i + 4] > 0 THEN
      RETURN QUERY
        SELECT 4, i / 5, t.position, 0::bigint, nothing, t.value FROM {schema}.log_entries t
        WHERE t.slot = logs[i] AND t.partition = given[logs[i + 1]] AND t.name = given[logs[i + 2]]
          AND t.position >= kept_from
        ORDER BY t.position LIMIT logs[i + 4];
    END IF;
  END LOOP;
  IF cardinality(ranges) > 0 THEN
    RETURN QUERY
      SELECT 5, (i / 6)::integer, found.slot::bigint, 0::bigint, found.entry, found.value
      FROM generate_series(1, cardinality(ranges), 6) AS i
      CROSS JOIN LATERAL (
        SELECT t.slot, t.entry, t.value FROM {schema}.index_entries t
        WHERE t.name = given[ranges[i + 1]] AND t.slot = ranges[i]
          AND t.entry > given[ranges[i + 2]] AND t.entry < given[ranges[i + 3]]
        ORDER BY t.entry LIMIT ranges[i + 4]) AS found
      WHERE ranges[i + 5] = 0;
  END IF;
  FOR i IN 1 .. cardinality(ranges) BY 6 LOOP
    IF ranges[i + 5] = 2 THEN
      RETURN QUERY
        SELECT 5, i / 6, t.slot::bigint, 0::bigint, t.entry, t.value FROM {schema}.index_entries t
        WHERE t.name = given[ranges[i + 1]] AND t.entry > given[ranges[i + 2]] AND t.entry < given[ranges[i + 3]]
        ORDER BY t.entry, t.slot LIMIT ranges[i + 4];
    ELSIF ranges[i + 5] = 3 THEN
      RETURN QUERY
        SELECT 5, i / 6, t.slot::bigint, 0::bigint, t.entry, t.value FROM {schema}.index_entries t
        WHERE t.name = given[ranges[i + 1]] AND t.entry > given[ranges[i + 2]] AND t.entry < given[ranges[i + 3]]
        ORDER BY t.entry DESC, t.slot DESC LIMIT ranges[i + 4];
    ELSIF ranges[i + 5] = 1 THEN
      RETURN QUERY
        SELECT 5, i / 6, t.slot::bigint, 0::bigint, t.entry, t.value FROM {schema}.index_entries t
        WHERE t.name = given[ranges[i + 1]] AND t.slot = ranges[i]
          AND t.entry > given[ranges[i + 2]] AND t.entry < given[ranges[i + 3]]
        ORDER BY t.entry DESC LIMIT ranges[i + 4];
    END IF;
  END LOOP;
END
$$;
