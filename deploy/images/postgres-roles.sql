-- Run once by the PostgreSQL image, as its superuser: a plain role with a database of its own for the services, and one
-- for the registry.
\set orderlog_password `cat /run/database-secrets/orderlog-password`
\set registry_password `cat /run/database-secrets/registry-password`
CREATE ROLE orderlog LOGIN PASSWORD :'orderlog_password';
CREATE ROLE registry LOGIN PASSWORD :'registry_password';
CREATE DATABASE orderlog OWNER orderlog;
CREATE DATABASE registry OWNER registry;
