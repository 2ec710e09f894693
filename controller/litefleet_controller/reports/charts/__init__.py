"""Charts for the reports, as SVG: inline in a page, or in a file of their own.  Pure; all texts are escaped.

Colours come from classes (`chart.css`), so that a chart is readable on light and on dark backgrounds.
"""
