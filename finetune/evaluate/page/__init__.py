"""One HTML page per evaluation, by which a manager and an engineer can judge it: report.html of a report's folder."""
