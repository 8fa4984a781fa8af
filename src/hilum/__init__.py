"""Pretraining on chest radiographs and transferring what was learnt."""
