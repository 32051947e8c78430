-- +goose Up

-- Drops cached reads: "table so-and-so has changed". PostgreSQL folds equal
-- notifications of one transaction into one, and sends none before it commits.
-- +goose StatementBegin
CREATE FUNCTION backendai_actors.announce() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_catalog.pg_notify('backendai_changed', TG_TABLE_NAME);
    RETURN NULL;
END
$$;
-- +goose StatementEnd

-- An UPDATE announces itself when it sets a column that a cached value may depend
-- on. Left out are created_at and modified_at everywhere, and last_used and
-- num_queries of keypairs: those may change with every request.

CREATE TRIGGER backendai_announce AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE OF uuid, username, email, password, need_password_change, full_name, description, status, status_info, integration_id, domain_name, role
    ON public.users FOR EACH STATEMENT EXECUTE FUNCTION backendai_actors.announce();
CREATE TRIGGER backendai_announce AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE OF user_id, access_key, secret_key, is_active, is_admin, rate_limit, ssh_public_key, ssh_private_key, "user", resource_policy, dotfiles, bootstrap_script
    ON public.keypairs FOR EACH STATEMENT EXECUTE FUNCTION backendai_actors.announce();
CREATE TRIGGER backendai_announce AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE OF name, default_for_unspecified, total_resource_slots, max_session_lifetime, max_concurrent_sessions, max_containers_per_session, max_vfolder_count, max_vfolder_size, idle_timeout, allowed_vfolder_hosts
    ON public.keypair_resource_policies FOR EACH STATEMENT EXECUTE FUNCTION backendai_actors.announce();
CREATE TRIGGER backendai_announce AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE OF name, description, is_active, total_resource_slots, allowed_vfolder_hosts, allowed_docker_registries, integration_id, dotfiles
    ON public.domains FOR EACH STATEMENT EXECUTE FUNCTION backendai_actors.announce();
CREATE TRIGGER backendai_announce AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE OF id, name, description, is_active, integration_id, domain_name, total_resource_slots, allowed_vfolder_hosts, dotfiles
    ON public.groups FOR EACH STATEMENT EXECUTE FUNCTION backendai_actors.announce();
CREATE TRIGGER backendai_announce AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE
    ON public.association_groups_users FOR EACH STATEMENT EXECUTE FUNCTION backendai_actors.announce();
CREATE TRIGGER backendai_announce AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE OF name, description, is_active, wsproxy_addr, driver, driver_opts, scheduler, scheduler_opts
    ON public.scaling_groups FOR EACH STATEMENT EXECUTE FUNCTION backendai_actors.announce();
CREATE TRIGGER backendai_announce AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE
    ON public.sgroups_for_domains FOR EACH STATEMENT EXECUTE FUNCTION backendai_actors.announce();
CREATE TRIGGER backendai_announce AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE
    ON public.sgroups_for_groups FOR EACH STATEMENT EXECUTE FUNCTION backendai_actors.announce();
CREATE TRIGGER backendai_announce AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE
    ON public.sgroups_for_keypairs FOR EACH STATEMENT EXECUTE FUNCTION backendai_actors.announce();
CREATE TRIGGER backendai_announce AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE OF id, name, image, tag, registry, architecture, config_digest, size_bytes, type, accelerators, labels, resources
    ON public.images FOR EACH STATEMENT EXECUTE FUNCTION backendai_actors.announce();
CREATE TRIGGER backendai_announce AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE
    ON public.image_aliases FOR EACH STATEMENT EXECUTE FUNCTION backendai_actors.announce();
CREATE TRIGGER backendai_announce AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE
    ON public.resource_presets FOR EACH STATEMENT EXECUTE FUNCTION backendai_actors.announce();


-- +goose Down
DROP FUNCTION backendai_actors.announce() CASCADE;
