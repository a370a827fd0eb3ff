"""A chapter run for every point of a grid, wherever the runs take place.

=================  =================================================================
``axes``           one axis as typed: ``0..9``, ``a,b,c``, ``linspace(0, 1, 5)``
``point_files``    a CSV or YAML file of points
``grid``           axes and files to typed, validated points
``tasks``          one run as a value that can travel
``store``          the folder of a sweep: rows, notebooks by content, the table
``forecast``       what a sweep will cost, from runs before
``engine``         points onto an executor: retries, Ctrl-C, resume
``progress``       what a person sees while a sweep runs
``executors``      where the runs take place: local processes, Dask
``cluster``        Dask: what the address of a cluster means, and whether its workers match
``report``         the page that shows a finished sweep
``report_…``       what is on it: table, scales, pictures, verdicts, cells
=================  =================================================================

The submodules are imported one by one: a worker that runs a task should not depend on the code that draws
a report.
"""
