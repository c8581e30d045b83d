"""Whole pages: images and PDFs in, text, JSON, hOCR, Markdown, searchable PDFs and annotated pictures out."""
