"""Training of crmend networks: simulation, data sets, training, export, validation."""
