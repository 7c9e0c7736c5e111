-- Applies a group of batches of which none looks at what another writes, if all of its checks hold; else changes nothing
-- and answers null. It is `commit_disjoint_1` for batches that may share partitions, counters and logs, as the steps of
-- one run do. Texts and values are given once, and are meant by their numbers (counted from 1) in rows of so many
-- numbers:
--
--   homes     slot, partition                          others name it by where its row begins
--   checks    home, name, version of the cell          -1: any
--   counters  home, name, amount                       what all batches add to it, on no branch
--   whens     place of a counter, value                whether it is now so decides over two branches
--   adds      place of a counter, amount, branch
--   puts      home, name, value, branch
--   logs      home, name
--   appends   place of a log, value, place of the value among those for this log, from 0
--   deletes   home, name                               of a cell, a counter and a log
--   leaves    slot, index, entry, branch
--   enters    slot, index, entry, branch, value
--
-- Branch 1 is taken always, 2 and 3 are those of the first row of whens, 4 and 5 those of the next. Of a counter that
-- batches share, the driver knows what it is between them from what it is in the end, and asks for that: each batch
-- sees its own zero. No cell, counter, log or entry is written twice, on whichever branches are taken, but for counters
-- that branches add to, which no row of whens names. The answer is the time, the counters in order, without what
-- branches have added, and the positions in the order of appends.
CREATE FUNCTION {schema}.commit_disjoint_2(
  locks bigint[], given bytea[], homes integer[], checks bigint[], counters bigint[], whens bigint[],
  adds bigint[], puts integer[], logs integer[], appends integer[], deletes integer[], leaves integer[],
  enters integer[]
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
  IF cardinality(counters) > 0 THEN
    WITH changed AS (
      INSERT INTO {schema}.counters AS t (slot, partition, name, value)
        SELECT homes[counters[i]], given[homes[counters[i] + 1]], given[counters[i + 1]], counters[i + 2]
        FROM generate_series(1, cardinality(counters), 3) AS i
        ON CONFLICT (slot, partition, name) DO UPDATE SET value = t.value + excluded.value
        RETURNING t.value)
    SELECT array_agg(value) INTO counts FROM changed;
  END IF;
  FOR i IN 1 .. cardinality(whens) BY 2 LOOP
    is_so := counts[whens[i]] = whens[i + 1];
    taken := taken || ARRAY[is_so, NOT is_so];
  END LOOP;
  IF cardinality(adds) > 0 THEN
    INSERT INTO {schema}.counters AS t (slot, partition, name, value)
      SELECT homes[counters[u.row]], given[homes[counters[u.row] + 1]], given[counters[u.row + 1]], u.amount
      FROM (SELECT adds[i] * 3 - 2 AS row, sum(adds[i + 1])::bigint AS amount
            FROM generate_series(1, cardinality(adds), 3) AS i WHERE taken[adds[i + 2]] GROUP BY 1) AS u
      ON CONFLICT (slot, partition, name) DO UPDATE SET value = t.value + excluded.value;
  END IF;
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
        SELECT homes[logs[appends[i] * 2 - 1]], given[homes[logs[appends[i] * 2 - 1] + 1]],
          given[logs[appends[i] * 2]],
          -- Of no row of this statement, so that the end of each log is looked for once, however much is appended.
          (ARRAY(SELECT coalesce(
            (SELECT e.position + 1 FROM {schema}.log_entries e
             WHERE e.slot = homes[logs[l]] AND e.partition = given[homes[logs[l] + 1]] AND e.name = given[logs[l + 1]]
             ORDER BY e.position DESC LIMIT 1),
            (SELECT s.start FROM {schema}.log_starts s
             WHERE s.slot = homes[logs[l]] AND s.partition = given[homes[logs[l] + 1]] AND s.name = given[logs[l + 1]]),
            0) FROM generate_series(1, cardinality(logs), 2) AS l))[appends[i]] + appends[i + 2],
          given[appends[i + 1]]
        FROM generate_series(1, cardinality(appends), 3) AS i
        RETURNING t.position)
    SELECT array_agg(position) INTO positions FROM added;
  END IF;
  IF cardinality(deletes) > 0 THEN
    DELETE FROM {schema}.cells t
      USING unnest(deletes) WITH ORDINALITY AS u(home, i)
      WHERE u.i % 2 = 1 AND t.slot = homes[u.home] AND t.partition = given[homes[u.home + 1]]
        AND t.name = given[deletes[u.i + 1]];
    DELETE FROM {schema}.counters t
      USING unnest(deletes) WITH ORDINALITY AS u(home, i)
      WHERE u.i % 2 = 1 AND t.slot = homes[u.home] AND t.partition = given[homes[u.home + 1]]
        AND t.name = given[deletes[u.i + 1]];
    DELETE FROM {schema}.log_entries t
      USING unnest(deletes) WITH ORDINALITY AS u(home, i)
      WHERE u.i % 2 = 1 AND t.slot = homes[u.home] AND t.partition = given[homes[u.home + 1]]
        AND t.name = given[deletes[u.i + 1]];
    DELETE FROM {schema}.log_starts t
      USING unnest(deletes) WITH ORDINALITY AS u(home, i)
      WHERE u.i % 2 = 1 AND t.slot = homes[u.home] AND t.partition = given[homes[u.home + 1]]
        AND t.name = given[deletes[u.i + 1]];
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
