"""What is generated from the contracts (schemas, AsyncAPI, permission files, a table), and the check of change."""
