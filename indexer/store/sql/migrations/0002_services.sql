-- Kept for what services call: functions, roles, views.
select 1;
