-- A place kept for the migration of that number, which comes from another branch.
select 1;
