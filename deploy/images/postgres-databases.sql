-- Run once by the PostgreSQL image, as the user `orderlog` in the database `orderlog`.
CREATE DATABASE registry;
