"""What is measured and how it is reported: accuracy on validation suites and on folders of labelled words."""
