-- Partitions, names, indexes and entry keys are bytea: their UTF-8, which sorts by code point and may hold any character.

CREATE TABLE {schema}.cells (
  slot integer NOT NULL, partition bytea NOT NULL, name bytea NOT NULL,
  version bigint NOT NULL, value bytea NOT NULL,
  PRIMARY KEY (slot, partition, name)
) WITH (
  fillfactor = 85,  -- room for the next version of a cell on its own page, so that no index is touched (HOT)
  autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.2
);

CREATE TABLE {schema}.counters (
  slot integer NOT NULL, partition bytea NOT NULL, name bytea NOT NULL,
  value bigint NOT NULL,
  PRIMARY KEY (slot, partition, name)
) WITH (
  fillfactor = 60,  -- small rows, some of them rewritten by every step of a run
  autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0
);

CREATE TABLE {schema}.log_entries (
  slot integer NOT NULL, partition bytea NOT NULL, name bytea NOT NULL, position bigint NOT NULL,
  value bytea NOT NULL,
  PRIMARY KEY (slot, partition, name, position)
) WITH (autovacuum_vacuum_scale_factor = 0.05);

-- A row only for a log that was trimmed: the position of its first kept entry.
CREATE TABLE {schema}.log_starts (
  slot integer NOT NULL, partition bytea NOT NULL, name bytea NOT NULL,
  start bigint NOT NULL,
  PRIMARY KEY (slot, partition, name)
) WITH (fillfactor = 60);

CREATE TABLE {schema}.index_entries (
  name bytea NOT NULL, entry bytea NOT NULL, slot integer NOT NULL,
  value bytea NOT NULL,
  PRIMARY KEY (name, entry, slot)
) WITH (
  -- Much of it lives for seconds: dead entries at the front of an index are what a scan from its start passes over.
  autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0
);
-- No second index by slot: what is read of one slot lies in indexes of one run, and so of one slot, or between bounds.

-- Applies a group of batches. The batches come as a program over numbered cells, counters, logs, entries and values
-- (counted from 1): instructions of four numbers, `op, a, b, c`. The answer is the time, then what the program says.
--
--   1 put     cell a := value b                    6 passed  all checks of the batch hold: answer 0
--   2 set     entry a := value b, or leaves (-1)   7 report  answer the value of counter a
--   3 check   cell a has version b (-1: any),      8 length  log a has length b, or answer where this check is and
--             or answer where this check is                  go on at c
--             and go on at c                       9 when    answer whether counter a equals b, go on at c if not
--   4 add     counter a += b                      10 jump    go on at a
--   5 append  values b to b+c-1 to log a;         11 delete  cell a, counter b and log c
--             answer the position of the first    12 trim    log a before b
CREATE FUNCTION {schema}.commit_group_1(
  locks bigint[],
  cell_slots integer[], cell_partitions bytea[], cell_names bytea[],
  counter_slots integer[], counter_partitions bytea[], counter_names bytea[],
  log_slots integer[], log_partitions bytea[], log_names bytea[],
  entry_slots integer[], entry_indexes bytea[], entry_keys bytea[],
  given bytea[],
  program bigint[]
) RETURNS bigint[] LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
  answer bigint[] := ARRAY[]::bigint[];
  versions bigint[];
  cell_changes integer[];     -- 0: none, -1: gone, else the number of the value
  has_puts boolean := false;
  has_gone boolean := false;
  counts bigint[];
  count_changes integer[];    -- 0: none, -1: gone, 1: changed
  has_adds boolean := false;
  starts bigint[];
  ends bigint[];
  log_changes integer[];      -- bits: 1 deleted, 2 trimmed since
  void_spans integer[];       -- how many of the appends so far a delete has undone
  has_log_changes boolean := false;
  span_count integer := 0;
  span_logs integer[] := ARRAY[]::integer[];
  span_positions bigint[] := ARRAY[]::bigint[];
  span_values bigint[] := ARRAY[]::bigint[];
  span_lengths bigint[] := ARRAY[]::bigint[];
  entry_changes integer[];    -- as of cells
  has_enters boolean := false;
  has_leaves boolean := false;
  here integer := 1;
  program_end integer := cardinality(program);
  op integer;
  a integer;
  b bigint;
  c integer;
BEGIN
  -- In the order given, which is the same for every group. Each statement after this one sees all that was committed
  -- by those who held the locks before: a volatile function takes a new snapshot for each.
  PERFORM pg_advisory_xact_lock(wanted) FROM unnest(locks) AS wanted;

  IF cardinality(cell_slots) > 0 THEN
    versions := ARRAY(
      SELECT coalesce((SELECT t.version FROM {schema}.cells t
                       WHERE t.slot = u.slot AND t.partition = u.partition AND t.name = u.name), 0)
      FROM unnest(cell_slots, cell_partitions, cell_names) AS u(slot, partition, name));
    cell_changes := array_fill(0, ARRAY[cardinality(cell_slots)]);
  END IF;
  IF cardinality(counter_slots) > 0 THEN
    counts := ARRAY(
      SELECT coalesce((SELECT t.value FROM {schema}.counters t
                       WHERE t.slot = u.slot AND t.partition = u.partition AND t.name = u.name), 0)
      FROM unnest(counter_slots, counter_partitions, counter_names) AS u(slot, partition, name));
    count_changes := array_fill(0, ARRAY[cardinality(counter_slots)]);
  END IF;
  IF cardinality(log_slots) > 0 THEN
    starts := ARRAY(
      SELECT coalesce((SELECT t.start FROM {schema}.log_starts t
                       WHERE t.slot = u.slot AND t.partition = u.partition AND t.name = u.name), 0)
      FROM unnest(log_slots, log_partitions, log_names) AS u(slot, partition, name));
    ends := ARRAY(
      SELECT coalesce((SELECT t.position + 1 FROM {schema}.log_entries t
                       WHERE t.slot = u.slot AND t.partition = u.partition AND t.name = u.name
                       ORDER BY t.position DESC LIMIT 1), u.start)
      FROM unnest(log_slots, log_partitions, log_names, starts) AS u(slot, partition, name, start));
    log_changes := array_fill(0, ARRAY[cardinality(log_slots)]);
    void_spans := log_changes;
  END IF;
  IF cardinality(entry_slots) > 0 THEN
    entry_changes := array_fill(0, ARRAY[cardinality(entry_slots)]);
  END IF;

  WHILE here < program_end LOOP
    op := program[here];
    a := program[here + 1];
    b := program[here + 2];
    IF op = 1 THEN
      versions[a] := versions[a] + 1;
      cell_changes[a] := b;
      has_puts := true;
    ELSIF op = 2 THEN
      entry_changes[a] := b;
      IF b > 0 THEN has_enters := true; ELSE has_leaves := true; END IF;
    ELSIF op = 3 THEN
      IF versions[a] <> b AND (b <> -1 OR versions[a] = 0) THEN
        answer := answer || here::bigint;
        here := program[here + 3] - 4;
      END IF;
    ELSIF op = 4 THEN
      counts[a] := counts[a] + b;
      count_changes[a] := 1;
      has_adds := true;
    ELSIF op = 5 THEN
      answer := answer || ends[a];
      c := program[here + 3];
      span_count := span_count + 1;
      span_logs := span_logs || a;
      span_positions := span_positions || ends[a];
      span_values := span_values || b;
      span_lengths := span_lengths || c::bigint;
      ends[a] := ends[a] + c;
    ELSIF op = 6 THEN
      answer := answer || 0::bigint;
    ELSIF op = 7 THEN
      answer := answer || counts[a];
    ELSIF op = 8 THEN
      IF ends[a] <> b THEN
        answer := answer || here::bigint;
        here := program[here + 3] - 4;
      END IF;
    ELSIF op = 9 THEN
      IF counts[a] = b THEN
        answer := answer || 1::bigint;
      ELSE
        answer := answer || 0::bigint;
        here := program[here + 3] - 4;
      END IF;
    ELSIF op = 10 THEN
      here := a - 4;
    ELSIF op = 11 THEN
      c := program[here + 3];
      versions[a] := 0;
      cell_changes[a] := -1;
      counts[b] := 0;
      count_changes[b] := -1;
      starts[c] := 0;
      ends[c] := 0;
      log_changes[c] := 1;
      void_spans[c] := span_count;
      has_gone := true;
      has_log_changes := true;
    ELSIF op = 12 THEN
      b := least(b, ends[a]);
      IF b > starts[a] THEN
        starts[a] := b;
        log_changes[a] := log_changes[a] | 2;
        has_log_changes := true;
      END IF;
    ELSE
      RAISE EXCEPTION 'floxide: unknown instruction %', op;
    END IF;
    here := here + 4;
  END LOOP;

  IF has_gone THEN
    DELETE FROM {schema}.cells t
      USING unnest(cell_changes, cell_slots, cell_partitions, cell_names) AS u(change, slot, partition, name)
      WHERE u.change = -1 AND t.slot = u.slot AND t.partition = u.partition AND t.name = u.name;
    DELETE FROM {schema}.counters t
      USING unnest(count_changes, counter_slots, counter_partitions, counter_names) AS u(change, slot, partition, name)
      WHERE u.change = -1 AND t.slot = u.slot AND t.partition = u.partition AND t.name = u.name;
  END IF;
  IF has_log_changes THEN
    DELETE FROM {schema}.log_entries t
      USING unnest(log_changes, log_slots, log_partitions, log_names) AS u(change, slot, partition, name)
      WHERE u.change & 1 = 1 AND t.slot = u.slot AND t.partition = u.partition AND t.name = u.name;
    DELETE FROM {schema}.log_starts t
      USING unnest(log_changes, log_slots, log_partitions, log_names) AS u(change, slot, partition, name)
      WHERE u.change & 1 = 1 AND t.slot = u.slot AND t.partition = u.partition AND t.name = u.name;
    DELETE FROM {schema}.log_entries t
      USING unnest(log_changes, log_slots, log_partitions, log_names, starts) AS u(change, slot, partition, name, start)
      WHERE u.change = 2 AND t.slot = u.slot AND t.partition = u.partition AND t.name = u.name AND t.position < u.start;
    INSERT INTO {schema}.log_starts AS t (slot, partition, name, start)
      SELECT u.slot, u.partition, u.name, u.start
      FROM unnest(log_changes, log_slots, log_partitions, log_names, starts) AS u(change, slot, partition, name, start)
      WHERE u.change & 2 = 2
      ON CONFLICT (slot, partition, name) DO UPDATE SET start = excluded.start;
  END IF;
  IF has_puts THEN
    INSERT INTO {schema}.cells AS t (slot, partition, name, version, value)
      SELECT u.slot, u.partition, u.name, u.version, given[u.change]
      FROM unnest(cell_changes, cell_slots, cell_partitions, cell_names, versions)
           AS u(change, slot, partition, name, version)
      WHERE u.change > 0
      ON CONFLICT (slot, partition, name) DO UPDATE SET version = excluded.version, value = excluded.value;
  END IF;
  IF has_adds THEN
    INSERT INTO {schema}.counters AS t (slot, partition, name, value)
      SELECT u.slot, u.partition, u.name, u.value
      FROM unnest(count_changes, counter_slots, counter_partitions, counter_names, counts)
           AS u(change, slot, partition, name, value)
      WHERE u.change > 0
      ON CONFLICT (slot, partition, name) DO UPDATE SET value = excluded.value;
  END IF;
  IF span_count > 0 THEN
    INSERT INTO {schema}.log_entries (slot, partition, name, position, value)
      SELECT log_slots[u.log], log_partitions[u.log], log_names[u.log], u.position + step, given[u.value + step]
      FROM unnest(span_logs, span_positions, span_values, span_lengths)
           WITH ORDINALITY AS u(log, position, value, length, span),
           generate_series(0, u.length - 1) AS step
      WHERE u.span > void_spans[u.log] AND u.position + step >= starts[u.log];
  END IF;
  IF has_leaves THEN
    DELETE FROM {schema}.index_entries t
      USING unnest(entry_changes, entry_slots, entry_indexes, entry_keys) AS u(change, slot, name, entry)
      WHERE u.change = -1 AND t.name = u.name AND t.entry = u.entry AND t.slot = u.slot;
  END IF;
  IF has_enters THEN
    INSERT INTO {schema}.index_entries AS t (name, entry, slot, value)
      SELECT u.name, u.entry, u.slot, given[u.change]
      FROM unnest(entry_changes, entry_slots, entry_indexes, entry_keys) AS u(change, slot, name, entry)
      WHERE u.change > 0
      ORDER BY u.name, u.entry, u.slot  -- no partition's lock guards them: all lock the rows in one order
      ON CONFLICT (name, entry, slot) DO UPDATE SET value = excluded.value;
  END IF;
  RETURN (floor(extract(epoch FROM clock_timestamp()) * 1000))::bigint || answer;
END
$$;

-- Removes up to `at_most` records of a partition but those of the names to keep; the partition's lock is held.
CREATE FUNCTION {schema}.clear_partition_1(wanted_slot integer, wanted bytea, kept bytea[], at_most bigint)
RETURNS bigint LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
  cleared bigint := 0;
  gone bigint;
  last bytea := ''::bytea;
BEGIN
  DELETE FROM {schema}.cells t
    USING (SELECT s.name FROM {schema}.cells s
           WHERE s.slot = wanted_slot AND s.partition = wanted AND s.name <> ALL (kept)
           ORDER BY s.name LIMIT at_most) AS u
    WHERE t.slot = wanted_slot AND t.partition = wanted AND t.name = u.name;
  GET DIAGNOSTICS gone = ROW_COUNT;
  cleared := cleared + gone;
  IF cleared < at_most THEN
    DELETE FROM {schema}.counters t
      USING (SELECT s.name FROM {schema}.counters s
             WHERE s.slot = wanted_slot AND s.partition = wanted AND s.name <> ALL (kept)
             ORDER BY s.name LIMIT at_most - cleared) AS u
      WHERE t.slot = wanted_slot AND t.partition = wanted AND t.name = u.name;
    GET DIAGNOSTICS gone = ROW_COUNT;
    cleared := cleared + gone;
  END IF;
  -- From log to log by the key, never over the entries of one: a statement over all names would read them all.
  WHILE cleared < at_most LOOP
    last := (SELECT least(
      (SELECT s.name FROM {schema}.log_entries s
       WHERE s.slot = wanted_slot AND s.partition = wanted AND s.name >= last AND s.name <> ALL (kept)
       ORDER BY s.name, s.position LIMIT 1),
      (SELECT s.name FROM {schema}.log_starts s
       WHERE s.slot = wanted_slot AND s.partition = wanted AND s.name >= last AND s.name <> ALL (kept)
       ORDER BY s.name LIMIT 1)));
    EXIT WHEN last IS NULL;
    DELETE FROM {schema}.log_entries t WHERE t.slot = wanted_slot AND t.partition = wanted AND t.name = last;
    DELETE FROM {schema}.log_starts t WHERE t.slot = wanted_slot AND t.partition = wanted AND t.name = last;
    last := last || '\x00'::bytea;
    cleared := cleared + 1;
  END LOOP;
  RETURN cleared;
END
$$;

-- Answers many reads from one snapshot, that of the statement that calls it. Rows by `kind`: 0 the time, 1 a cell
-- (version, value), 2 a counter (value), 3 a log (first position returned, next position), 4 an entry of the log of
-- that number, 5 an entry of the index range of that number (slot, key, value).
CREATE FUNCTION {schema}.read_group_1(
  cell_slots integer[], cell_partitions bytea[], cell_names bytea[],
  counter_slots integer[], counter_partitions bytea[], counter_names bytea[],
  log_slots integer[], log_partitions bytea[], log_names bytea[], log_firsts bigint[], log_limits bigint[],
  range_slots integer[], range_indexes bytea[], range_afters bytea[], range_befores bytea[], range_limits bigint[],
  range_reverses boolean[]
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
  IF cardinality(cell_slots) > 0 THEN
    RETURN QUERY
      SELECT 1, u.n::integer, coalesce(found.version, 0), 0::bigint, nothing, coalesce(found.value, nothing)
      FROM unnest(cell_slots, cell_partitions, cell_names) WITH ORDINALITY AS u(slot, partition, name, n)
      LEFT JOIN LATERAL (
        SELECT t.version, t.value FROM {schema}.cells t
        WHERE t.slot = u.slot AND t.partition = u.partition AND t.name = u.name LIMIT 1) AS found ON true;
  END IF;
  IF cardinality(counter_slots) > 0 THEN
    RETURN QUERY
      SELECT 2, u.n::integer,
        coalesce((SELECT t.value FROM {schema}.counters t
                  WHERE t.slot = u.slot AND t.partition = u.partition AND t.name = u.name), 0),
        0::bigint, nothing, nothing
      FROM unnest(counter_slots, counter_partitions, counter_names) WITH ORDINALITY AS u(slot, partition, name, n);
  END IF;
  FOR i IN 1 .. cardinality(log_slots) LOOP
    kept_from := coalesce((SELECT t.start FROM {schema}.log_starts t
      WHERE t.slot = log_slots[i] AND t.partition = log_partitions[i] AND t.name = log_names[i]), 0);
    next_position := coalesce((SELECT t.position + 1 FROM {schema}.log_entries t
      WHERE t.slot = log_slots[i] AND t.partition = log_partitions[i] AND t.name = log_names[i]
      ORDER BY t.position DESC LIMIT 1), kept_from);
    kept_from := greatest(kept_from, log_firsts[i]);
    kind := 3; number := i; one := kept_from; two := next_position; key := nothing; value := nothing;
    RETURN NEXT;
    IF kept_from < next_position AND log_limits[i] > 0 THEN
      RETURN QUERY
        SELECT 4, i, t.position, 0::bigint, nothing, t.value FROM {schema}.log_entries t
        WHERE t.slot = log_slots[i] AND t.partition = log_partitions[i] AND t.name = log_names[i]
          AND t.position >= kept_from
        ORDER BY t.position LIMIT log_limits[i];
    END IF;
  END LOOP;
  FOR i IN 1 .. cardinality(range_slots) LOOP
    IF range_reverses[i] THEN
      IF range_slots[i] IS NULL THEN
        RETURN QUERY
          SELECT 5, i, t.slot::bigint, 0::bigint, t.entry, t.value FROM {schema}.index_entries t
          WHERE t.name = range_indexes[i] AND t.entry > range_afters[i] AND t.entry < range_befores[i]
          ORDER BY t.entry DESC, t.slot DESC LIMIT range_limits[i];
      ELSE
        RETURN QUERY
          SELECT 5, i, t.slot::bigint, 0::bigint, t.entry, t.value FROM {schema}.index_entries t
          WHERE t.name = range_indexes[i] AND t.slot = range_slots[i]
            AND t.entry > range_afters[i] AND t.entry < range_befores[i]
          ORDER BY t.entry DESC LIMIT range_limits[i];
      END IF;
    ELSIF range_slots[i] IS NULL THEN
      RETURN QUERY
        SELECT 5, i, t.slot::bigint, 0::bigint, t.entry, t.value FROM {schema}.index_entries t
        WHERE t.name = range_indexes[i] AND t.entry > range_afters[i] AND t.entry < range_befores[i]
        ORDER BY t.entry, t.slot LIMIT range_limits[i];
    ELSE
      RETURN QUERY
        SELECT 5, i, t.slot::bigint, 0::bigint, t.entry, t.value FROM {schema}.index_entries t
        WHERE t.name = range_indexes[i] AND t.slot = range_slots[i]
          AND t.entry > range_afters[i] AND t.entry < range_befores[i]
        ORDER BY t.entry LIMIT range_limits[i];
    END IF;
  END LOOP;
END
$$;

-- Lists records of one kind ('cell', 'counter', 'log') of a slot, from a key on, up to and with a partition. The size
-- of a long log is estimated from its first entries.
CREATE FUNCTION {schema}.list_records_1(
  wanted_kind text, wanted_slot integer, from_partition bytea, from_name bytea, to_partition bytea, at_most bigint
) RETURNS TABLE (partition bytea, name bytea, size bigint, number bigint)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
  sampled bigint;
  left_to_list bigint := at_most;
  kept_from bigint;
BEGIN
  IF wanted_kind = 'cell' THEN
    RETURN QUERY
      SELECT t.partition, t.name, octet_length(t.value)::bigint, t.version FROM {schema}.cells t
      WHERE t.slot = wanted_slot AND (t.partition, t.name) >= (from_partition, from_name)
        AND t.partition <= to_partition
      ORDER BY t.partition, t.name LIMIT at_most;
  ELSIF wanted_kind = 'counter' THEN
    RETURN QUERY
      SELECT t.partition, t.name, 8::bigint, t.value FROM {schema}.counters t
      WHERE t.slot = wanted_slot AND (t.partition, t.name) >= (from_partition, from_name)
        AND t.partition <= to_partition
      ORDER BY t.partition, t.name LIMIT at_most;
  ELSE
    partition := from_partition; name := from_name;
    WHILE left_to_list > 0 LOOP
      SELECT u.partition, u.name INTO partition, name FROM (
        (SELECT t.partition, t.name FROM {schema}.log_entries t
         WHERE t.slot = wanted_slot AND (t.partition, t.name) >= (from_partition, from_name)
           AND t.partition <= to_partition
         ORDER BY t.partition, t.name, t.position LIMIT 1)
        UNION ALL
        (SELECT t.partition, t.name FROM {schema}.log_starts t
         WHERE t.slot = wanted_slot AND (t.partition, t.name) >= (from_partition, from_name)
           AND t.partition <= to_partition
         ORDER BY t.partition, t.name LIMIT 1)) AS u
      ORDER BY u.partition, u.name LIMIT 1;
      EXIT WHEN NOT FOUND;
      from_partition := partition; from_name := name;
      kept_from := coalesce((SELECT t.start FROM {schema}.log_starts t
        WHERE t.slot = wanted_slot AND t.partition = from_partition AND t.name = from_name), 0);
      number := coalesce((SELECT t.position + 1 FROM {schema}.log_entries t
        WHERE t.slot = wanted_slot AND t.partition = from_partition AND t.name = from_name
        ORDER BY t.position DESC LIMIT 1), kept_from);
      SELECT count(*), coalesce(sum(octet_length(s.value)), 0) INTO sampled, size FROM (
        SELECT t.value FROM {schema}.log_entries t
        WHERE t.slot = wanted_slot AND t.partition = from_partition AND t.name = from_name
        ORDER BY t.position LIMIT 200) AS s;
      IF sampled > 0 THEN
        size := size * (number - kept_from) / sampled;
      END IF;
      RETURN NEXT;
      from_name := from_name || '\x00'::bytea;
      left_to_list := left_to_list - 1;
    END LOOP;
  END IF;
END
$$;
