-- +goose Up

-- Left out are the columns that use alone changes: num_files, cur_size and last_used.
CREATE TRIGGER backendai_announce AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE OF id, host, name, usage_mode, permission, unmanaged_path, ownership_type, "user", "group"
    ON public.vfolders FOR EACH STATEMENT EXECUTE FUNCTION backendai_actors.announce();
CREATE TRIGGER backendai_announce AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE
    ON public.vfolder_permissions FOR EACH STATEMENT EXECUTE FUNCTION backendai_actors.announce();

-- +goose Down
DROP TRIGGER backendai_announce ON public.vfolders;
DROP TRIGGER backendai_announce ON public.vfolder_permissions;
