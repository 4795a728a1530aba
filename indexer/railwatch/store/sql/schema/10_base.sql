-- The schema, by topic: these files in the order of their names are one text. `migrate.schema_text` concatenates them.
-- Amounts are base units in NUMERIC(78,0), times are timestamptz, block hashes and tx ids the node's own text form.

create schema railwatch;
comment on schema railwatch is 'Payments to per-invoice addresses: what was asked, what was seen, what followed. Read docs/contract.md.';

create table railwatch.migrations (
    version int primary key,
    name text not null,
    checksum text not null,
    applied_at timestamptz not null default now()
);
comment on table railwatch.migrations is 'Which migrations have been applied here. A migrator locks this table.';
comment on column railwatch.migrations.version is 'The number in its file''s name.';
comment on column railwatch.migrations.name is 'The rest of that name.';
comment on column railwatch.migrations.checksum is 'SHA-256 of its text.';
comment on column railwatch.migrations.applied_at is 'When.';

-- A migrator creates its first table of migrations in `public`, before this schema exists. Its rows move here.
do $$
begin
    if to_regclass('public.railwatch_migrations') is not null then
        insert into railwatch.migrations select version, name, checksum, applied_at from public.railwatch_migrations;
        drop table public.railwatch_migrations;
    end if;
end $$;

create function railwatch.raise_error(code text, message text, hint text default null) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    -- The message repeats arguments of the caller: cut to a readable length, without characters that control a terminal.
    control constant text := '[\u0001-\u0009\u000b-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]';
begin
    raise exception using errcode = case when code ~ '^RW[0-9]{3}$' then code else 'RW001' end,
        message = regexp_replace(left(coalesce(message, ''), 2000), control, '?', 'g'),
        hint = regexp_replace(left(coalesce(hint, ''), 2000), control, '?', 'g');
end $$;
comment on function railwatch.raise_error is 'Raise an error with a SQLSTATE of our own (class RW; listed in docs/contract.md).';

create function railwatch.check_text(value text, field text, longest int) returns void
language plpgsql immutable as $$
begin
    if value is null or length(value) not between 1 and longest then
        perform railwatch.raise_error('RW001', field || ' is missing, or not a text of 1 to ' || longest || ' characters');
    end if;
    if value ~ '[\u0001-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]' then
        perform railwatch.raise_error('RW001', field || ' holds a control character', 'Remove it: use letters, digits, signs and blanks.');
    end if;
end $$;
comment on function railwatch.check_text is 'Accept a required text of one line, or raise RW001 with the field''s name.';

create function railwatch.check_note(value text, field text, longest int) returns void
language plpgsql immutable as $$
begin
    if length(value) > longest then
        perform railwatch.raise_error('RW001', field || ' has ' || length(value) || ' characters; at most ' || longest || ' are accepted');
    end if;
    if value ~ '[\u0001-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]' then
        perform railwatch.raise_error('RW001', field || ' holds a control character', 'Remove it: only line feeds and tabs are accepted.');
    end if;
end $$;
comment on function railwatch.check_note is 'Accept an optional text of several lines, or raise RW001 with the field''s name.';
