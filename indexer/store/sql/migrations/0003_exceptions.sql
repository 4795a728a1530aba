-- Kept for exceptions and evidence.
select 1;
