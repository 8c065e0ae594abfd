SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public.weather_dead_letter (
    topic text NOT NULL,
    partition integer NOT NULL,
    incarnation bigint NOT NULL,
    "offset" bigint NOT NULL,
    reason text NOT NULL,
    payload bytea,
    payload_bytes bigint NOT NULL,
    recorded_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE public.weather_partial (
    topic text NOT NULL,
    window_start timestamp without time zone NOT NULL,
    partition integer NOT NULL,
    reading_count bigint NOT NULL,
    temp_count bigint NOT NULL,
    humidity_count bigint NOT NULL,
    wind_speed_count bigint NOT NULL,
    temp_sum bigint NOT NULL,
    humidity_sum bigint NOT NULL,
    wind_speed_sum bigint NOT NULL
)
WITH (fillfactor='70');
CREATE TABLE public.weather_partition (
    topic text NOT NULL,
    partition integer NOT NULL,
    owner text,
    epoch bigint DEFAULT 0 NOT NULL,
    lease_expires_at timestamp with time zone,
    incarnation bigint,
    origin_offset bigint,
    next_offset bigint,
    high_watermark bigint,
    max_event_time timestamp without time zone,
    watermark timestamp without time zone,
    idle boolean DEFAULT false NOT NULL,
    aggregated bigint DEFAULT 0 NOT NULL,
    duplicates bigint DEFAULT 0 NOT NULL,
    skipped bigint DEFAULT 0 NOT NULL,
    lost bigint DEFAULT 0 NOT NULL,
    sampled_out bigint DEFAULT 0 NOT NULL,
    malformed bigint DEFAULT 0 NOT NULL,
    missing_timestamp bigint DEFAULT 0 NOT NULL,
    no_metric bigint DEFAULT 0 NOT NULL,
    out_of_range bigint DEFAULT 0 NOT NULL,
    future bigint DEFAULT 0 NOT NULL,
    late bigint DEFAULT 0 NOT NULL,
    oversized bigint DEFAULT 0 NOT NULL,
    log_memory bytea,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
)
WITH (fillfactor='50');
CREATE TABLE public.weather_pipeline (
    singleton boolean DEFAULT true NOT NULL,
    schema_version integer NOT NULL,
    topic text NOT NULL,
    window_ms bigint NOT NULL,
    CONSTRAINT weather_pipeline_singleton_check CHECK (singleton)
);
CREATE TABLE public.weather_process (
    topic text NOT NULL,
    owner text NOT NULL,
    expires_at timestamp with time zone NOT NULL
)
WITH (fillfactor='50');
CREATE TABLE public.weather_summary (
    window_start timestamp without time zone,
    window_end timestamp without time zone,
    avg_temp double precision,
    avg_humidity double precision,
    avg_wind_speed double precision,
    reading_count bigint DEFAULT 0 NOT NULL,
    is_final boolean DEFAULT false NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
)
WITH (fillfactor='70');
INSERT INTO public.weather_dead_letter VALUES ('readings', 0, 0, 10, 'late', '\x7b2273746174696f6e223a2273222c2274696d657374616d70223a313736373536363430303030302c2274656d7065726174757265223a31302e32352c2268756d6964697479223a35307d', 75, '2026-11-22 20:34:32.353372+07');
INSERT INTO public.weather_dead_letter VALUES ('readings', 0, 0, 12, 'malformed', '\x7b2274656d7065726174757265223a', 15, '2026-11-22 20:34:32.353372+07');
INSERT INTO public.weather_dead_letter VALUES ('readings', 0, 0, 21, 'late', '\x7b2273746174696f6e223a2273222c2274696d657374616d70223a313736373537313032303030302c2274656d7065726174757265223a32312e32352c2268756d6964697479223a35307d', 75, '2026-11-22 20:34:32.353372+07');
INSERT INTO public.weather_dead_letter VALUES ('readings', 0, 0, 25, 'malformed', '\x7b2274656d7065726174757265223a', 15, '2026-11-22 20:34:32.353372+07');
INSERT INTO public.weather_dead_letter VALUES ('readings', 0, 0, 32, 'late', '\x7b2273746174696f6e223a2273222c2274696d657374616d70223a313736373537353634303030302c2274656d7065726174757265223a33322e32352c2268756d6964697479223a35307d', 75, '2026-11-22 20:34:32.353372+07');
INSERT INTO public.weather_dead_letter VALUES ('readings', 0, 0, 38, 'malformed', '\x7b2274656d7065726174757265223a', 15, '2026-11-22 20:34:32.353372+07');
INSERT INTO public.weather_partial VALUES ('readings', '2026-01-05 00:00:00', 0, 9, 9, 9, 0, 38250000, 450000000, 0);
INSERT INTO public.weather_partial VALUES ('readings', '2026-01-05 01:00:00', 0, 6, 6, 6, 0, 80500000, 300000000, 0);
INSERT INTO public.weather_partial VALUES ('readings', '2026-01-05 02:00:00', 0, 6, 6, 6, 0, 127500000, 300000000, 0);
INSERT INTO public.weather_partial VALUES ('readings', '2026-01-05 03:00:00', 0, 7, 7, 7, 0, 206750000, 350000000, 0);
INSERT INTO public.weather_partial VALUES ('readings', '2026-01-05 04:00:00', 0, 4, 4, 4, 0, 148000000, 200000000, 0);
INSERT INTO public.weather_partition VALUES ('readings', 0, 'host-da860792-a465d7', 2, '2026-11-22 20:34:47.454912+07', 0, 0, 40, 40, '2026-01-05 04:33:00', '2026-01-05 04:23:00', false, 32, 2, 0, 0, 0, 3, 0, 0, 0, 0, 3, 0, '\x0100000000000000000000006e16a61136a89bff2700000000000000dade6982556076010100000000000000070000000000000027000000000000002700000000000000', '2026-11-22 20:34:32.454912+07');
INSERT INTO public.weather_pipeline VALUES (true, 1, 'readings', 3600000);
INSERT INTO public.weather_summary VALUES ('2026-01-05 00:00:00', '2026-01-05 01:00:00', 4.25, 50, NULL, 9, true, '2026-11-22 20:34:32.384769+07');
INSERT INTO public.weather_summary VALUES ('2026-01-05 01:00:00', '2026-01-05 02:00:00', 13.416666666666666, 50, NULL, 6, true, '2026-11-22 20:34:32.384795+07');
INSERT INTO public.weather_summary VALUES ('2026-01-05 02:00:00', '2026-01-05 03:00:00', 21.25, 50, NULL, 6, true, '2026-11-22 20:34:32.384799+07');
INSERT INTO public.weather_summary VALUES ('2026-01-05 03:00:00', '2026-01-05 04:00:00', 29.535714285714285, 50, NULL, 7, true, '2026-11-22 20:34:32.384802+07');
INSERT INTO public.weather_summary VALUES ('2026-01-05 04:00:00', '2026-01-05 05:00:00', 37, 50, NULL, 4, true, '2026-11-22 20:34:32.455497+07');
ALTER TABLE ONLY public.weather_dead_letter
    ADD CONSTRAINT weather_dead_letter_pkey PRIMARY KEY (topic, partition, incarnation, "offset");
ALTER TABLE ONLY public.weather_partial
    ADD CONSTRAINT weather_partial_pkey PRIMARY KEY (topic, window_start, partition);
ALTER TABLE ONLY public.weather_partition
    ADD CONSTRAINT weather_partition_pkey PRIMARY KEY (topic, partition);
ALTER TABLE ONLY public.weather_pipeline
    ADD CONSTRAINT weather_pipeline_pkey PRIMARY KEY (singleton);
ALTER TABLE ONLY public.weather_process
    ADD CONSTRAINT weather_process_pkey PRIMARY KEY (topic, owner);
CREATE INDEX idx_window_start ON public.weather_summary USING btree (window_start);
CREATE INDEX weather_dead_letter_recorded ON public.weather_dead_letter USING btree (recorded_at);
CREATE INDEX weather_summary_open ON public.weather_summary USING btree (window_end) WHERE (NOT is_final);
CREATE UNIQUE INDEX weather_summary_window ON public.weather_summary USING btree (window_start, window_end);
