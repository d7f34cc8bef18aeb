"""Figures and pages: self-contained HTML with inline SVG, readable offline."""
