create function railwatch.parse_amount(value jsonb, place text) returns numeric
language plpgsql immutable as $$
declare
    digits text := value #>> '{}';
begin
    if value is null or jsonb_typeof(value) not in ('number', 'string') or digits !~ '^[0-9]{1,100}$' then
        perform railwatch.raise_error('RW004', place || ': amount ' || coalesce(value::text, 'is missing')
            || ' is not a whole number of base units', 'Give an integer or a string of digits, such as "1500000".');
    end if;
    if digits::numeric = 0 or digits::numeric >= 2::numeric ^ 256 then
        perform railwatch.raise_error('RW004', place || ': amount ' || digits || ' is not between 1 and 2^256 - 1');
    end if;
    return digits::numeric(78, 0);
end $$;
comment on function railwatch.parse_amount is 'Parse an amount in base units; refuse floats, signs and zero.';

create function railwatch.parse_policy(value jsonb, rail railwatch.rails) returns jsonb
language plpgsql immutable as $$
declare
    confirmations text := value ->> 'confirmations';
    plus text := coalesce(value ->> 'plus', '0');
begin
    if value -> 'finalized' = 'true'::jsonb and confirmations is null and plus ~ '^[0-9]{1,6}$' then
        if not rail.has_finality then
            perform railwatch.raise_error('RW008', 'rail ' || rail.name || ' has no finality, so no policy can wait for it',
                'Use {"confirmations": n}.');
        end if;
        return jsonb_build_object('finalized', true, 'plus', plus::int);
    end if;
    if confirmations !~ '^[1-9][0-9]{0,5}$' or confirmations is null or value ? 'finalized' or value ? 'plus' then
        perform railwatch.raise_error('RW008', 'policy ' || value::text || ' can never be met',
            'Use {"confirmations": n} with n of at least 1, or {"finalized": true, "plus": n}.');
    end if;
    if confirmations::int > rail.max_confirmations then
        perform railwatch.raise_error('RW008', 'rail ' || rail.name || ' reports at most ' || rail.max_confirmations
            || ' confirmations, not ' || confirmations, 'Use {"finalized": true}.');
    end if;
    return jsonb_build_object('confirmations', confirmations::int);
end $$;
comment on function railwatch.parse_policy is 'Check a confirmation policy against the rail''s traits, and return it in canonical form.';

create function railwatch.resolve_policy(on_rail text, for_asset text, fiat numeric, out policy jsonb, out origin text)
language sql stable as $$
    -- The configuration's before the default, the asset's before the rail's; then the smallest tier that holds the
    -- total. Without a total the strictest tier counts, which is the one above all others.
    select p.policy, p.origin
    from railwatch.policies p
    where p.rail = on_rail and (p.asset is null or p.asset = for_asset)
      and (p.up_to is null or fiat <= p.up_to)
    order by p.origin = 'configuration' desc, p.asset is not null desc, p.up_to asc nulls last
    limit 1;
$$;
comment on function railwatch.resolve_policy is 'The policy for an asset and a fiat total, and where it comes from.';

create function railwatch.parse_timestamp(value jsonb, field text) returns timestamptz
language plpgsql stable as $$
declare
    moment timestamptz;
begin
    if jsonb_typeof(value) is distinct from 'string'
       or (value #>> '{}') !~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]+)?)?(Z|[+-][0-9]{2}(:?[0-9]{2})?)$' then
        perform railwatch.raise_error('RW005', field || ' ' || coalesce(value::text, '') || ' is not a time',
            'Give ISO 8601 with an offset, such as "2030-01-31T12:00:00Z".');
    end if;
    moment := (value #>> '{}')::timestamptz;
    if moment not between '2009-01-01 00:00:00+00' and now() + interval '20 years' then
        perform railwatch.raise_error('RW005', field || ' ' || value::text || ' is before 2009, or more than 20 years ahead');
    end if;
    return moment;
exception when invalid_datetime_format or datetime_field_overflow or invalid_time_zone_displacement_value then
    perform railwatch.raise_error('RW005', field || ' ' || value::text || ' is not a time',
        'Give ISO 8601 with an offset, such as "2030-01-31T12:00:00Z".');
end $$;
comment on function railwatch.parse_timestamp is 'Parse a time, or raise RW005 with the field''s name.';

create function railwatch.parse_count(value jsonb, field text, lowest bigint, highest bigint, code text) returns bigint
language plpgsql immutable as $$
begin
    if value is null or jsonb_typeof(value) <> 'number' or value::text !~ '^-?[0-9]{1,18}$'
       or value::text::bigint not between lowest and highest then
        perform railwatch.raise_error(code, field || ' ' || coalesce(value::text, 'is missing') || ' is not a whole number from '
            || lowest || ' to ' || highest);
    end if;
    return value::text::bigint;
end $$;
comment on function railwatch.parse_count is 'Parse a whole number within bounds, or raise an error with the field''s name.';

create function railwatch.parse_text(request jsonb, field text, place text default '') returns text
language plpgsql immutable as $$
begin
    perform railwatch.check_text(case when jsonb_typeof(request -> field) = 'string' then request ->> field end, place || field, 200);
    return request ->> field;
end $$;
comment on function railwatch.parse_text is 'Parse a required text, or raise RW001 with the field''s name.';

create function railwatch.parse_expiry(request jsonb) returns timestamptz
language plpgsql stable as $$
declare
    expiry timestamptz;
begin
    if (request ? 'expires_at') = (request ? 'expires_in') then
        perform railwatch.raise_error('RW005', 'give either expires_at or expires_in (seconds)');
    end if;
    if request ? 'expires_in' then
        return now() + make_interval(secs =>
            railwatch.parse_count(request -> 'expires_in', 'expires_in', 1, 315360000, 'RW005'));
    end if;
    expiry := railwatch.parse_timestamp(request -> 'expires_at', 'expires_at');
    if expiry <= now() then
        perform railwatch.raise_error('RW005', 'expires_at ' || (request ->> 'expires_at') || ' is in the past');
    end if;
    return expiry;
end $$;
comment on function railwatch.parse_expiry is 'End of the payment window, from expires_at or expires_in.';

create function railwatch.check_fields(request jsonb) returns void
language plpgsql immutable as $$
declare
    unknown text;
begin
    if jsonb_typeof(request) is distinct from 'object' then
        perform railwatch.raise_error('RW001', 'create_invoice takes a JSON object');
    end if;
    if octet_length(request::text) > 131072 then
        perform railwatch.raise_error('RW001', 'the request has ' || octet_length(request::text) || ' bytes; at most 131072 are accepted');
    end if;
    select key into unknown from jsonb_object_keys(request) key
    where key not in ('merchant_id', 'order_id', 'expires_at', 'expires_in', 'destinations', 'policy', 'time_basis',
                      'tolerance_bps', 'fiat_amount', 'fiat_currency', 'rate_locked_at', 'closes_in', 'accept_before',
                      'metadata')
    limit 1;
    if unknown is not null then
        perform railwatch.raise_error('RW001', 'unknown field "' || unknown || '"');
    end if;
    if coalesce(request ->> 'time_basis', 'first_seen') not in ('first_seen', 'block_time', 'confirmed') then
        perform railwatch.raise_error('RW001', 'time_basis "' || (request ->> 'time_basis')
            || '" is not first_seen, block_time or confirmed');
    end if;
    if jsonb_typeof(request -> 'destinations') is distinct from 'array'
       or jsonb_array_length(request -> 'destinations') not between 1 and 20 then
        perform railwatch.raise_error('RW001', 'destinations is not a list of 1 to 20 destinations');
    end if;
    if request ? 'policy' and (jsonb_typeof(request -> 'policy') <> 'object' or length((request -> 'policy')::text) > 200) then
        perform railwatch.raise_error('RW008', 'policy is not an object of at most 200 characters');
    end if;
    if request ? 'metadata' then
        if jsonb_typeof(request -> 'metadata') <> 'object' then
            perform railwatch.raise_error('RW001', 'metadata is not an object');
        end if;
        if octet_length((request -> 'metadata')::text) > 65536 or jsonb_path_exists(request -> 'metadata', '$.**{33}') then
            perform railwatch.raise_error('RW001', 'metadata has more than 65536 bytes, or more than 32 levels',
                'Store it in your own database, and put a key to it into metadata.');
        end if;
        if jsonb_path_exists(request -> 'metadata', '$.** ? (@ > 1e100 || @ < -1e100)') then
            perform railwatch.raise_error('RW001', 'metadata holds a number beyond 1e100', 'Write it as a string.');
        end if;
    end if;
    if request ? 'fiat_currency' and coalesce(request ->> 'fiat_currency', '') !~ '^[A-Z]{3,10}$' then
        perform railwatch.raise_error('RW001', 'fiat_currency ' || (request -> 'fiat_currency')::text || ' is not a code such as "EUR"');
    end if;
    if request ? 'fiat_amount' and (request ->> 'fiat_amount') !~ '^[0-9]{1,30}([.][0-9]{1,8})?$' then
        perform railwatch.raise_error('RW001', 'fiat_amount ' || (request -> 'fiat_amount')::text
            || ' is not a decimal of at most 8 places', 'Give a string such as "49.90".');
    end if;
end $$;
comment on function railwatch.check_fields is 'Part of create_invoice: what can be refused before anything is written.';
