-- Undoes the tail (spec/database §6) in a grown database, for tests.
ALTER TABLE keypair_resource_policies DROP COLUMN max_session_lifetime;
ALTER TABLE kernels DROP COLUMN callback_url;
ALTER TABLE keypairs ADD COLUMN concurrency_used integer;
ALTER TABLE kernels DROP COLUMN vfolder_mounts;
DROP INDEX ix_keypairs_resource_policy;
ALTER TABLE agents DROP COLUMN architecture;
ALTER TABLE kernels DROP COLUMN architecture;
DROP TABLE image_aliases;
DROP TABLE images;
DROP TYPE image_type;
ALTER TABLE scaling_groups DROP COLUMN wsproxy_addr;
