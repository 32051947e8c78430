-- What the original's migrations do between 21.09 and the head of 22.03, in their
-- order, each step skipped when its effect is there (spec/database §6). The
-- result is the grown shape.

-- 60a1effa77d2
ALTER TABLE scaling_groups ADD COLUMN IF NOT EXISTS wsproxy_addr varchar(1024);

-- 015d84d5a5ef: images move from etcd into the database; fill them with `image rescan`.
DO $$
BEGIN
    IF to_regclass('public.images') IS NULL THEN
        CREATE TYPE image_type AS ENUM ('COMPUTE', 'SYSTEM', 'SERVICE');
        CREATE TABLE images (
            id            uuid NOT NULL DEFAULT uuid_generate_v4() CONSTRAINT pk_images PRIMARY KEY,
            name          varchar NOT NULL,
            image         varchar NOT NULL,
            created_at    timestamptz DEFAULT now(),
            tag           varchar NOT NULL,
            registry      varchar NOT NULL,
            architecture  varchar NOT NULL DEFAULT 'x86_64',
            config_digest char(72) NOT NULL,
            size_bytes    bigint NOT NULL,
            type          image_type NOT NULL,
            accelerators  varchar,
            labels        jsonb NOT NULL,
            resources     jsonb NOT NULL
        );
        CREATE INDEX ix_images_name ON images (name);
        CREATE INDEX ix_images_image ON images (image);
        CREATE INDEX ix_images_created_at ON images (created_at);
        CREATE INDEX ix_images_tag ON images (tag);
        CREATE INDEX ix_images_registry ON images (registry);
        CREATE INDEX ix_images_architecture ON images (architecture);
        CREATE INDEX ix_image_image_tag_registry ON images (image, tag, registry);
        CREATE UNIQUE INDEX ix_image_name_architecture ON images (name, architecture);
    END IF;
    IF to_regclass('public.image_aliases') IS NULL THEN
        CREATE TABLE image_aliases (
            id    uuid NOT NULL DEFAULT uuid_generate_v4() CONSTRAINT pk_image_aliases PRIMARY KEY,
            alias varchar,
            image uuid NOT NULL CONSTRAINT fk_image_aliases_image_images REFERENCES images (id)
        );
        CREATE UNIQUE INDEX ix_image_aliases_alias ON image_aliases (alias);
        CREATE UNIQUE INDEX ix_image_alias_unique_ref ON image_aliases (image, alias);
    END IF;
END
$$;

-- 911023380bc9: everything that ran before ran on x86_64.
ALTER TABLE agents ADD COLUMN IF NOT EXISTS architecture varchar;
ALTER TABLE kernels ADD COLUMN IF NOT EXISTS architecture varchar;
UPDATE agents SET architecture = 'x86_64' WHERE architecture IS NULL;
UPDATE kernels SET architecture = 'x86_64' WHERE architecture IS NULL;
ALTER TABLE agents ALTER COLUMN architecture SET NOT NULL;
ALTER TABLE kernels ALTER COLUMN architecture SET NOT NULL;

-- 7dd1d81c3204
ALTER TABLE kernels ADD COLUMN IF NOT EXISTS vfolder_mounts json;
CREATE INDEX IF NOT EXISTS ix_keypairs_resource_policy ON keypairs (resource_policy);

-- 11146ba02235
ALTER TABLE agents ALTER COLUMN architecture TYPE varchar(32) USING btrim(architecture);

-- d59ff89e7514: the counter lives in Redis now.
ALTER TABLE keypairs DROP COLUMN IF EXISTS concurrency_used;

-- d727b5da20e6
ALTER TABLE kernels ADD COLUMN IF NOT EXISTS callback_url text;

-- 81c264528f20
ALTER TABLE keypair_resource_policies ADD COLUMN IF NOT EXISTS max_session_lifetime integer NOT NULL DEFAULT 0;
