"""The profiler: every operator call of a run, timed, placed under the roofline, by stage."""
