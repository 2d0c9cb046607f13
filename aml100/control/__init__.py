"""The operator protocol between engine and console and the socket that carries it; alerts and the flight recorder."""
