-- Turns the fresh shape into the grown one (spec/database §6), for tests.
ALTER TABLE agents ALTER available_slots SET DEFAULT '{}', ALTER occupied_slots SET DEFAULT '{}', ALTER compute_plugins SET DEFAULT '{}',
    ALTER region SET DEFAULT 'amazon/ap-northeast-2', ALTER version SET DEFAULT '19.06.0';
ALTER TABLE domains ALTER dotfiles SET DEFAULT '\x90';
ALTER TABLE keypairs ALTER dotfiles SET DEFAULT '\x90', ALTER bootstrap_script SET DEFAULT '';
ALTER TABLE groups ALTER dotfiles DROP NOT NULL, ALTER dotfiles SET DEFAULT '\x90';
ALTER TYPE imagetype RENAME TO image_type;
ALTER TABLE images ALTER architecture SET DEFAULT 'x86_64', ALTER labels TYPE jsonb, ALTER tag TYPE varchar, ALTER tag SET NOT NULL;
ALTER TABLE kernels ALTER architecture TYPE varchar, ALTER architecture SET NOT NULL, ALTER bootstrap_script TYPE varchar(4096),
    ALTER cluster_mode SET DEFAULT 'single-node', ALTER cluster_role SET DEFAULT 'main', ALTER cluster_size SET DEFAULT 1,
    ALTER container_id TYPE varchar, ALTER occupied_shares SET DEFAULT '{}', ALTER occupied_slots SET DEFAULT '{}',
    ALTER scaling_group SET DEFAULT 'default', ALTER session_name SET DEFAULT uuid_generate_v4(), ALTER vfolder_mounts TYPE json;
ALTER TYPE defaultforunspecified RENAME TO default_for_unspecified;
ALTER TABLE session_templates ALTER template TYPE varchar(16384) USING template::text;
ALTER TYPE templatetype RENAME TO templatetypes;
ALTER TABLE vfolders ALTER ownership_type DROP NOT NULL, ALTER permission SET NOT NULL;
ALTER TYPE errorlog_severity ADD VALUE 'info';
ALTER TYPE errorlog_severity ADD VALUE 'debug';
CREATE INDEX ix_image_image_tag_registry ON images (image, tag, registry);
CREATE INDEX ix_images_tag ON images (tag);
CREATE UNIQUE INDEX ix_image_name_architecture ON images (name, architecture);
CREATE UNIQUE INDEX ix_image_alias_unique_ref ON image_aliases (image, alias);
CREATE INDEX ix_kernels_uuid_prefix ON kernels (((id)::varchar) COLLATE "C");
CREATE INDEX ix_keypairs_resource_policy ON keypairs (resource_policy);
DROP INDEX ix_session_templates_type;
DROP INDEX ix_session_templates_user_uuid;
