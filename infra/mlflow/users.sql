-- users and rights lie apart from runs, so that they can be backed up and read apart
CREATE DATABASE mlflow_users;
