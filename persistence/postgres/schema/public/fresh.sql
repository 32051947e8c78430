-- The tables of 22.03 as its own tool creates them in an empty database
-- (spec/database §3.2 and §4). Names of types, constraints and indexes are part
-- of it: the original's migrations refer to them, and so do error messages.

CREATE EXTENSION IF NOT EXISTS "uuid-ossp";

CREATE TYPE userstatus AS ENUM ('active', 'inactive', 'deleted', 'before-verification');
CREATE TYPE userrole AS ENUM ('superadmin', 'admin', 'user', 'monitor');
CREATE TYPE sessiontypes AS ENUM ('INTERACTIVE', 'BATCH');
CREATE TYPE kernelstatus AS ENUM ('PENDING', 'SCHEDULED', 'PREPARING', 'BUILDING', 'PULLING', 'RUNNING', 'RESTARTING', 'RESIZING', 'SUSPENDED', 'TERMINATING', 'TERMINATED', 'ERROR', 'CANCELLED');
CREATE TYPE sessionresult AS ENUM ('UNDEFINED', 'SUCCESS', 'FAILURE');
CREATE TYPE agentstatus AS ENUM ('ALIVE', 'LOST', 'RESTARTING', 'TERMINATED');
CREATE TYPE errorlog_severity AS ENUM ('critical', 'error', 'warning');
CREATE TYPE imagetype AS ENUM ('COMPUTE', 'SYSTEM', 'SERVICE');
CREATE TYPE defaultforunspecified AS ENUM ('LIMITED', 'UNLIMITED');
CREATE TYPE vfolderusagemode AS ENUM ('general', 'model', 'data');
CREATE TYPE vfolderpermission AS ENUM ('ro', 'rw', 'wd');
CREATE TYPE vfolderownershiptype AS ENUM ('user', 'group');
CREATE TYPE vfolderinvitationstate AS ENUM ('pending', 'canceled', 'accepted', 'rejected');
CREATE TYPE templatetype AS ENUM ('TASK', 'CLUSTER');

CREATE TABLE IF NOT EXISTS alembic_version (
    version_num varchar(32) NOT NULL CONSTRAINT alembic_version_pkc PRIMARY KEY
);

CREATE TABLE scaling_groups (
    name           varchar(64) NOT NULL CONSTRAINT pk_scaling_groups PRIMARY KEY,
    description    varchar(512),
    is_active      boolean,
    created_at     timestamptz DEFAULT now(),
    wsproxy_addr   varchar(1024),
    driver         varchar(64) NOT NULL,
    driver_opts    jsonb NOT NULL,
    scheduler      varchar(64) NOT NULL,
    scheduler_opts jsonb NOT NULL
);
CREATE INDEX ix_scaling_groups_is_active ON scaling_groups (is_active);

CREATE TABLE domains (
    name                      varchar(64) NOT NULL CONSTRAINT pk_domains PRIMARY KEY,
    description               varchar(512),
    is_active                 boolean,
    created_at                timestamptz DEFAULT now(),
    modified_at               timestamptz DEFAULT now(),
    total_resource_slots      jsonb,
    allowed_vfolder_hosts     varchar[] NOT NULL,
    allowed_docker_registries varchar[] NOT NULL,
    integration_id            varchar(512),
    dotfiles                  bytea NOT NULL
);

CREATE TABLE images (
    id            uuid NOT NULL DEFAULT uuid_generate_v4() CONSTRAINT pk_images PRIMARY KEY,
    name          varchar NOT NULL,
    image         varchar NOT NULL,
    created_at    timestamptz DEFAULT now(),
    tag           text,
    registry      varchar NOT NULL,
    architecture  varchar NOT NULL,
    config_digest char(72) NOT NULL,
    size_bytes    bigint NOT NULL,
    type          imagetype NOT NULL,
    accelerators  varchar,
    labels        json NOT NULL,
    resources     jsonb NOT NULL
);
CREATE INDEX ix_images_name ON images (name);
CREATE INDEX ix_images_image ON images (image);
CREATE INDEX ix_images_created_at ON images (created_at);
CREATE INDEX ix_images_registry ON images (registry);
CREATE INDEX ix_images_architecture ON images (architecture);

CREATE TABLE keypair_resource_policies (
    name                       varchar(256) NOT NULL CONSTRAINT pk_keypair_resource_policies PRIMARY KEY,
    created_at                 timestamptz DEFAULT now(),
    default_for_unspecified    defaultforunspecified NOT NULL,
    total_resource_slots       jsonb NOT NULL,
    max_session_lifetime       integer NOT NULL DEFAULT 0,
    max_concurrent_sessions    integer NOT NULL,
    max_containers_per_session integer NOT NULL,
    max_vfolder_count          integer NOT NULL,
    max_vfolder_size           bigint NOT NULL,
    idle_timeout               bigint NOT NULL,
    allowed_vfolder_hosts      varchar[] NOT NULL
);

CREATE TABLE resource_presets (
    name           varchar(256) NOT NULL CONSTRAINT pk_resource_presets PRIMARY KEY,
    resource_slots jsonb NOT NULL,
    shared_memory  bigint
);

CREATE TABLE users (
    uuid                 uuid NOT NULL DEFAULT uuid_generate_v4() CONSTRAINT pk_users PRIMARY KEY,
    username             varchar(64) CONSTRAINT uq_users_username UNIQUE,
    email                varchar(64) NOT NULL,
    password             varchar,
    need_password_change boolean,
    full_name            varchar(64),
    description          varchar(500),
    status               userstatus NOT NULL,
    status_info          varchar,
    created_at           timestamptz DEFAULT now(),
    modified_at          timestamptz DEFAULT now(),
    integration_id       varchar(512),
    domain_name          varchar(64) CONSTRAINT fk_users_domain_name_domains REFERENCES domains (name),
    role                 userrole
);
CREATE UNIQUE INDEX ix_users_email ON users (email);
CREATE INDEX ix_users_domain_name ON users (domain_name);

CREATE TABLE groups (
    id                    uuid NOT NULL DEFAULT uuid_generate_v4() CONSTRAINT pk_groups PRIMARY KEY,
    name                  varchar(64) NOT NULL,
    description           varchar(512),
    is_active             boolean,
    created_at            timestamptz DEFAULT now(),
    modified_at           timestamptz DEFAULT now(),
    integration_id        varchar(512),
    domain_name           varchar(64) NOT NULL CONSTRAINT fk_groups_domain_name_domains REFERENCES domains (name) ON UPDATE CASCADE ON DELETE CASCADE,
    total_resource_slots  jsonb,
    allowed_vfolder_hosts varchar[] NOT NULL,
    dotfiles              bytea NOT NULL,
    CONSTRAINT uq_groups_name_domain_name UNIQUE (name, domain_name)
);
CREATE INDEX ix_groups_domain_name ON groups (domain_name);

CREATE TABLE agents (
    id              varchar(64) NOT NULL CONSTRAINT pk_agents PRIMARY KEY,
    status          agentstatus NOT NULL,
    status_changed  timestamptz,
    region          varchar(64) NOT NULL,
    scaling_group   varchar(64) NOT NULL DEFAULT 'default' CONSTRAINT fk_agents_scaling_group_scaling_groups REFERENCES scaling_groups (name),
    schedulable     boolean NOT NULL DEFAULT true,
    available_slots jsonb NOT NULL,
    occupied_slots  jsonb NOT NULL,
    addr            varchar(128) NOT NULL,
    first_contact   timestamptz DEFAULT now(),
    lost_at         timestamptz,
    version         varchar(64) NOT NULL,
    architecture    varchar(32) NOT NULL,
    compute_plugins jsonb NOT NULL
);
CREATE INDEX ix_agents_status ON agents (status);
CREATE INDEX ix_agents_region ON agents (region);
CREATE INDEX ix_agents_scaling_group ON agents (scaling_group);

CREATE TABLE sgroups_for_domains (
    scaling_group varchar(64) NOT NULL CONSTRAINT fk_sgroups_for_domains_scaling_group_scaling_groups REFERENCES scaling_groups (name) ON UPDATE CASCADE ON DELETE CASCADE,
    domain        varchar(64) NOT NULL CONSTRAINT fk_sgroups_for_domains_domain_domains REFERENCES domains (name) ON UPDATE CASCADE ON DELETE CASCADE,
    CONSTRAINT uq_sgroup_domain UNIQUE (scaling_group, domain)
);
CREATE INDEX ix_sgroups_for_domains_scaling_group ON sgroups_for_domains (scaling_group);
CREATE INDEX ix_sgroups_for_domains_domain ON sgroups_for_domains (domain);

CREATE TABLE image_aliases (
    id    uuid NOT NULL DEFAULT uuid_generate_v4() CONSTRAINT pk_image_aliases PRIMARY KEY,
    alias varchar,
    image uuid NOT NULL CONSTRAINT fk_image_aliases_image_images REFERENCES images (id)
);
CREATE UNIQUE INDEX ix_image_aliases_alias ON image_aliases (alias);

CREATE TABLE association_groups_users (
    user_id  uuid NOT NULL CONSTRAINT fk_association_groups_users_user_id_users REFERENCES users (uuid) ON UPDATE CASCADE ON DELETE CASCADE,
    group_id uuid NOT NULL CONSTRAINT fk_association_groups_users_group_id_groups REFERENCES groups (id) ON UPDATE CASCADE ON DELETE CASCADE,
    CONSTRAINT uq_association_user_id_group_id UNIQUE (user_id, group_id)
);

CREATE TABLE sgroups_for_groups (
    scaling_group varchar(64) NOT NULL CONSTRAINT fk_sgroups_for_groups_scaling_group_scaling_groups REFERENCES scaling_groups (name) ON UPDATE CASCADE ON DELETE CASCADE,
    "group"       uuid NOT NULL CONSTRAINT fk_sgroups_for_groups_group_groups REFERENCES groups (id) ON UPDATE CASCADE ON DELETE CASCADE,
    CONSTRAINT uq_sgroup_ugroup UNIQUE (scaling_group, "group")
);
CREATE INDEX ix_sgroups_for_groups_scaling_group ON sgroups_for_groups (scaling_group);
CREATE INDEX ix_sgroups_for_groups_group ON sgroups_for_groups ("group");

CREATE TABLE keypairs (
    user_id          varchar(256),
    access_key       varchar(20) NOT NULL CONSTRAINT pk_keypairs PRIMARY KEY,
    secret_key       varchar(40),
    is_active        boolean,
    is_admin         boolean DEFAULT false,
    created_at       timestamptz DEFAULT now(),
    modified_at      timestamptz DEFAULT now(),
    last_used        timestamptz,
    rate_limit       integer,
    num_queries      integer DEFAULT 0,
    ssh_public_key   varchar(750),
    ssh_private_key  varchar(2000),
    "user"           uuid NOT NULL CONSTRAINT fk_keypairs_user_users REFERENCES users (uuid),
    resource_policy  varchar(256) NOT NULL CONSTRAINT fk_keypairs_resource_policy_keypair_resource_policies REFERENCES keypair_resource_policies (name),
    dotfiles         bytea NOT NULL,
    bootstrap_script varchar(65536) NOT NULL
);
CREATE INDEX ix_keypairs_user_id ON keypairs (user_id);
CREATE INDEX ix_keypairs_is_active ON keypairs (is_active);
CREATE INDEX ix_keypairs_is_admin ON keypairs (is_admin);

CREATE TABLE error_logs (
    id             uuid NOT NULL DEFAULT uuid_generate_v4() CONSTRAINT pk_error_logs PRIMARY KEY,
    created_at     timestamptz DEFAULT now(),
    severity       errorlog_severity,
    source         varchar,
    "user"         uuid CONSTRAINT fk_error_logs_user_users REFERENCES users (uuid),
    is_read        boolean,
    is_cleared     boolean,
    message        text,
    context_lang   varchar,
    context_env    jsonb,
    request_url    varchar,
    request_status integer,
    traceback      text
);
CREATE INDEX ix_error_logs_created_at ON error_logs (created_at);
CREATE INDEX ix_error_logs_severity ON error_logs (severity);
CREATE INDEX ix_error_logs_user ON error_logs ("user");
CREATE INDEX ix_error_logs_is_read ON error_logs (is_read);
CREATE INDEX ix_error_logs_is_cleared ON error_logs (is_cleared);

CREATE TABLE vfolders (
    id             uuid NOT NULL DEFAULT uuid_generate_v4(),
    host           varchar(128) NOT NULL,
    name           varchar(64) NOT NULL,
    usage_mode     vfolderusagemode NOT NULL,
    permission     vfolderpermission,
    max_files      integer,
    max_size       integer,
    num_files      integer,
    cur_size       integer,
    created_at     timestamptz DEFAULT now(),
    last_used      timestamptz,
    creator        varchar(128),
    unmanaged_path varchar(512),
    ownership_type vfolderownershiptype NOT NULL,
    "user"         uuid CONSTRAINT fk_vfolders_user_users REFERENCES users (uuid),
    "group"        uuid CONSTRAINT fk_vfolders_group_groups REFERENCES groups (id),
    cloneable      boolean NOT NULL,
    CONSTRAINT pk_vfolders PRIMARY KEY (id),
    CONSTRAINT ck_vfolders_ownership_type_match_with_user_or_group CHECK ((ownership_type = 'user' AND "user" IS NOT NULL) OR (ownership_type = 'group' AND "group" IS NOT NULL)),
    CONSTRAINT ck_vfolders_either_one_of_user_or_group CHECK (("user" IS NULL AND "group" IS NOT NULL) OR ("user" IS NOT NULL AND "group" IS NULL))
);
CREATE INDEX ix_vfolders_name ON vfolders (name);

CREATE TABLE session_templates (
    id          uuid NOT NULL DEFAULT uuid_generate_v4() CONSTRAINT pk_session_templates PRIMARY KEY,
    created_at  timestamptz DEFAULT now(),
    is_active   boolean,
    domain_name varchar(64) NOT NULL CONSTRAINT fk_session_templates_domain_name_domains REFERENCES domains (name),
    group_id    uuid CONSTRAINT fk_session_templates_group_id_groups REFERENCES groups (id),
    user_uuid   uuid NOT NULL CONSTRAINT fk_session_templates_user_uuid_users REFERENCES users (uuid),
    type        templatetype NOT NULL DEFAULT 'TASK',
    name        varchar(128),
    template    jsonb NOT NULL
);
CREATE INDEX ix_session_templates_created_at ON session_templates (created_at);
CREATE INDEX ix_session_templates_user_uuid ON session_templates (user_uuid);
CREATE INDEX ix_session_templates_type ON session_templates (type);

CREATE TABLE kernels (
    id                  uuid NOT NULL DEFAULT uuid_generate_v4() CONSTRAINT pk_kernels PRIMARY KEY,
    session_id          uuid NOT NULL,
    session_creation_id varchar(32),
    session_name        varchar(64),
    session_type        sessiontypes NOT NULL DEFAULT 'INTERACTIVE',
    cluster_mode        varchar(16) NOT NULL DEFAULT 'SINGLE_NODE',
    cluster_size        integer NOT NULL,
    cluster_role        varchar(16) NOT NULL,
    cluster_idx         integer NOT NULL,
    cluster_hostname    varchar(64) NOT NULL,
    scaling_group       varchar(64) CONSTRAINT fk_kernels_scaling_group_scaling_groups REFERENCES scaling_groups (name),
    agent               varchar(64) CONSTRAINT fk_kernels_agent_agents REFERENCES agents (id),
    agent_addr          varchar(128),
    domain_name         varchar(64) NOT NULL CONSTRAINT fk_kernels_domain_name_domains REFERENCES domains (name),
    group_id            uuid NOT NULL CONSTRAINT fk_kernels_group_id_groups REFERENCES groups (id),
    user_uuid           uuid NOT NULL CONSTRAINT fk_kernels_user_uuid_users REFERENCES users (uuid),
    access_key          varchar(20) CONSTRAINT fk_kernels_access_key_keypairs REFERENCES keypairs (access_key),
    image               varchar(512),
    architecture        varchar(32),
    registry            varchar(512),
    tag                 varchar(64),
    container_id        varchar(64),
    occupied_slots      jsonb NOT NULL,
    occupied_shares     jsonb NOT NULL,
    environ             varchar[],
    mounts              varchar[],
    mount_map           jsonb,
    vfolder_mounts      jsonb,
    attached_devices    jsonb,
    resource_opts       jsonb,
    bootstrap_script    varchar(16384),
    kernel_host         varchar(128),
    repl_in_port        integer NOT NULL,
    repl_out_port       integer NOT NULL,
    stdin_port          integer NOT NULL,
    stdout_port         integer NOT NULL,
    service_ports       jsonb,
    preopen_ports       integer[],
    created_at          timestamptz DEFAULT now(),
    terminated_at       timestamptz,
    starts_at           timestamptz,
    status              kernelstatus NOT NULL DEFAULT 'PENDING',
    status_changed      timestamptz,
    status_info         varchar,
    status_data         jsonb,
    callback_url        text,
    startup_command     text,
    result              sessionresult NOT NULL DEFAULT 'UNDEFINED',
    internal_data       jsonb,
    container_log       bytea,
    num_queries         bigint,
    last_stat           jsonb
);
CREATE INDEX ix_kernels_session_id ON kernels (session_id);
CREATE INDEX ix_kernels_session_name ON kernels (session_name);
CREATE INDEX ix_kernels_session_type ON kernels (session_type);
CREATE INDEX ix_kernels_cluster_role ON kernels (cluster_role);
CREATE INDEX ix_kernels_scaling_group ON kernels (scaling_group);
CREATE INDEX ix_kernels_created_at ON kernels (created_at);
CREATE INDEX ix_kernels_terminated_at ON kernels (terminated_at);
CREATE INDEX ix_kernels_status ON kernels (status);
CREATE INDEX ix_kernels_status_changed ON kernels (status_changed);
CREATE INDEX ix_kernels_result ON kernels (result);
CREATE INDEX ix_kernels_sess_id_role ON kernels (session_id, cluster_role);
CREATE INDEX ix_kernels_status_role ON kernels (status, cluster_role);
-- Of three constants instead of three columns, so of no use; every database of 22.03 has it.
CREATE INDEX ix_kernels_updated_order ON kernels (greatest('created_at', 'terminated_at', 'status_changed'));
-- Names of living sessions are unique per keypair.
CREATE UNIQUE INDEX ix_kernels_unique_sess_token ON kernels (access_key, session_name)
    WHERE status NOT IN ('TERMINATED', 'CANCELLED') AND cluster_role = 'main';

CREATE TABLE sgroups_for_keypairs (
    scaling_group varchar(64) NOT NULL CONSTRAINT fk_sgroups_for_keypairs_scaling_group_scaling_groups REFERENCES scaling_groups (name) ON UPDATE CASCADE ON DELETE CASCADE,
    access_key    varchar(20) NOT NULL CONSTRAINT fk_sgroups_for_keypairs_access_key_keypairs REFERENCES keypairs (access_key) ON UPDATE CASCADE ON DELETE CASCADE,
    CONSTRAINT uq_sgroup_akey UNIQUE (scaling_group, access_key)
);
CREATE INDEX ix_sgroups_for_keypairs_scaling_group ON sgroups_for_keypairs (scaling_group);
CREATE INDEX ix_sgroups_for_keypairs_access_key ON sgroups_for_keypairs (access_key);

CREATE TABLE vfolder_invitations (
    id          uuid NOT NULL DEFAULT uuid_generate_v4() CONSTRAINT pk_vfolder_invitations PRIMARY KEY,
    permission  vfolderpermission,
    inviter     varchar(256),
    invitee     varchar(256) NOT NULL,
    state       vfolderinvitationstate,
    created_at  timestamptz DEFAULT now(),
    modified_at timestamptz,
    vfolder     uuid NOT NULL CONSTRAINT fk_vfolder_invitations_vfolder_vfolders REFERENCES vfolders (id) ON UPDATE CASCADE ON DELETE CASCADE
);

CREATE TABLE vfolder_permissions (
    permission vfolderpermission,
    vfolder    uuid NOT NULL CONSTRAINT fk_vfolder_permissions_vfolder_vfolders REFERENCES vfolders (id) ON UPDATE CASCADE ON DELETE CASCADE,
    "user"     uuid NOT NULL CONSTRAINT fk_vfolder_permissions_user_users REFERENCES users (uuid)
);

CREATE TABLE session_dependencies (
    session_id uuid NOT NULL CONSTRAINT fk_session_dependencies_session_id_kernels REFERENCES kernels (id) ON UPDATE CASCADE ON DELETE CASCADE,
    depends_on uuid NOT NULL CONSTRAINT fk_session_dependencies_depends_on_kernels REFERENCES kernels (id) ON UPDATE CASCADE ON DELETE CASCADE,
    CONSTRAINT pk_session_dependencies PRIMARY KEY (session_id, depends_on)
);
CREATE INDEX ix_session_dependencies_session_id ON session_dependencies (session_id);
CREATE INDEX ix_session_dependencies_depends_on ON session_dependencies (depends_on);

CREATE TABLE vfolder_attachment (
    vfolder uuid NOT NULL CONSTRAINT fk_vfolder_attachment_vfolder_vfolders REFERENCES vfolders (id) ON UPDATE CASCADE ON DELETE CASCADE,
    kernel  uuid NOT NULL CONSTRAINT fk_vfolder_attachment_kernel_kernels REFERENCES kernels (id) ON UPDATE CASCADE ON DELETE CASCADE,
    CONSTRAINT pk_vfolder_attachment PRIMARY KEY (vfolder, kernel)
);
