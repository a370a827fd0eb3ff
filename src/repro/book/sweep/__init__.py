"""A chapter run for every point of a grid, wherever the runs take place.

===========  ===========================================================================
``grid``     axes as typed (``0..9``, ``a,b,c``) and files of points, to checked points
``_runs``    one run as a value that can travel, and the folder of what became of it
``_engine``  points onto workers, of this machine or a cluster: retries, Ctrl-C, resume
``report``   the page that shows a finished sweep
===========  ===========================================================================

The submodules are imported one by one: a worker that runs a task should not depend on the code that draws a report.
"""
