"""Pictures for the reports, as SVG: inline in a page, or a file of their own.  Pure; every text in them is escaped.

Colours come from classes (`chart.css`), so that a picture is readable on light and on dark ground.
"""
