"""SAEs in the form that others read, in and out: SAELens folders, hub repositories."""
