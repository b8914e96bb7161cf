"""Proctor: releases exercises and marks what students hand in; knows nothing of attention."""
