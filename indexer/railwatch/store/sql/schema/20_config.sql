create table railwatch.assets (
    id text not null,
    rail text not null references railwatch.rails (name),
    symbol text not null,
    contract text,
    decimals int not null,
    enabled boolean not null default true,
    min_amount numeric(78, 0) not null default 0 check (min_amount >= 0),
    primary key (rail, id)
);
create unique index assets_symbol on railwatch.assets (rail, symbol) where enabled;
comment on table railwatch.assets is 'Configured assets, mirrored from the configuration at start.';
comment on column railwatch.assets.id is 'CAIP-19 id.';
comment on column railwatch.assets.rail is 'The rail it lives on.';
comment on column railwatch.assets.symbol is 'For people. Unique on its rail, and proof of nothing.';
comment on column railwatch.assets.contract is 'The token''s contract; null for the native asset.';
comment on column railwatch.assets.decimals is 'Display units = amount / 10^decimals.';
comment on column railwatch.assets.enabled is 'Whether the configuration of the last start had it.';
comment on column railwatch.assets.min_amount is 'Base units. A smaller transfer is counted on its destination, and moves nothing.';

create table railwatch.policies (
    rail text not null references railwatch.rails (name),
    asset text,
    up_to numeric(40, 8),
    policy jsonb not null,
    origin text not null check (origin in ('configuration', 'default'))
);
comment on table railwatch.policies is 'Confirmation policies by rail, asset and value tier, mirrored at start. Invoices keep their own copy.';
comment on column railwatch.policies.rail is 'The rail.';
comment on column railwatch.policies.asset is 'CAIP-19 id of the asset; null: every asset of the rail.';
comment on column railwatch.policies.up_to is 'Fiat total up to which the tier holds, inclusive; null: above all others.';
comment on column railwatch.policies.policy is '{"confirmations": n} or {"finalized": true, "plus": n}.';
comment on column railwatch.policies.origin is 'configuration, or default (the table of the manual).';

create table railwatch.settings (
    name text primary key,
    value jsonb not null
);
comment on table railwatch.settings is 'Defaults for functions, mirrored from the configuration at start.';
comment on column railwatch.settings.name is 'Such as closes_in.';
comment on column railwatch.settings.value is 'The value.';
