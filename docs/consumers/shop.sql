-- The shop's own tables. Running it again is harmless. Its keys make every effect happen once.
create schema if not exists shop;

create table if not exists shop.fulfilments (
    invoice_id uuid primary key,          -- an invoice is fulfilled once, however often the feed says `paid`
    order_id text not null,
    event_id uuid not null,               -- the transition that said it first
    seq bigint not null,
    fulfilled_at timestamptz not null default now()
);

create table if not exists shop.reversals (
    event_id uuid primary key,            -- a reversal is acted upon once, however often it is read
    invoice_id uuid not null references shop.fulfilments (invoice_id),
    seq bigint not null,
    settled_again_seq bigint,             -- null: goods have left and the money has not come back
    reversed_at timestamptz not null default now()
);

-- How far the shop has read, for the consumer that keeps its position in a database of its own (fulfil.py).
create table if not exists shop.feed (
    consumer text primary key,
    position bigint not null,
    generation uuid,                      -- the feed's generation, and the event at the position: whether it went back
    event_id uuid
);
alter table shop.feed add column if not exists generation uuid, add column if not exists event_id uuid;
