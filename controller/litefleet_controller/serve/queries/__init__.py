"""Read models of the pages and the API: functions over the state that return values, filtered and paged in SQL.  No HTTP."""
