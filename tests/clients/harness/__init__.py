"""Servers, stores, clients and readers that the client tests are written with."""
