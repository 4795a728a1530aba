select 1;  -- Nothing yet.
