-- Prefect's database is the one that POSTGRES_DB names; MLflow has another. Runs once, when the
-- volume is new.
CREATE DATABASE mlflow;
