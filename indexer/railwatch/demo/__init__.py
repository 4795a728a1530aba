"""`railwatch demo`: the whole job, on real development nodes and a real Postgres, told as stories.

Rails bring their nodes and stories by the entry-point group ``railwatch.demos`` (`railwatch.rail.demo`). What they have
in common is here: `processes` runs nodes and daemon, `setting` is the folder that they run in, `backstage` gets them
ready, `feed` reads what the daemon tells as a service would, `shop` is what a story can do, `telling` compares, `view`
and `report` show, `runner` directs.
"""
