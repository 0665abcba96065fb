"""What a person or another program reads of an analysis: terminal, HTML, Markdown and data files."""
