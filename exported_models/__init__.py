"""Model packs: graphs and cards, one folder per detector."""
