"""`railwatch demo`: the whole job, on real development nodes and a real Postgres, as stories.

Rails bring their nodes and stories by the entry-point group ``railwatch.demos`` (`railwatch.rail.demo`). What they have
in common is here: `processes` runs nodes and daemon, `workspace` is the folder that they run in, `environment` gets
them ready, `feed` reads the transitions as a service would, `shop` is what a story can do, `scenario_run` compares,
`progress_view` and `report` show, `runner` directs.
"""
