package graphql

import (
	"context"

	"backend.ai/manager/persistence/postgres/listing"
)

// virtualFolder is a folder of a user or a group.
type virtualFolder struct {
	ID            *ID
	Host          *string
	Name          *string
	User          *UUID
	UserEmail     *string
	Group         *UUID
	GroupName     *string
	Creator       *string
	UnmanagedPath *string
	UsageMode     *string
	Permission    *string
	OwnershipType *string
	MaxFiles      *int32
	MaxSize       *BigInt // MiB
	CreatedAt     *DateTime
	LastUsed      *DateTime
	NumFiles      *int32  // always 0
	CurSize       *BigInt // always 0
	Cloneable     *bool
}

var vfolderNeeds = map[string][]string{"num_files": {}, "cur_size": {}}

// VFolderList is vfolder_list. access_key is there for old clients and says nothing.
func (q *queries) VFolderList(ctx context.Context, args struct {
	pageArgs
	DomainName *string
	GroupID    *uuidArg
	AccessKey  *string
}) (*page[virtualFolder], error) {
	me := who(ctx)
	domain, owner, err := scope(me, args.DomainName, me.User.ID.String(), nil, false)
	if err != nil {
		return nil, err
	}
	where := optional("owner", owner, optional("domain_name", domain, nil))
	if args.GroupID != nil {
		group, err := args.GroupID.parse()
		if err != nil {
			return nil, err
		}
		where = append(where, listing.Is("of_group", group))
	}
	p, err := readPage[virtualFolder](ctx, q.Resource, listing.VirtualFolders, args.query(where...), selected(ctx), vfolderNeeds)
	if err != nil {
		return nil, err
	}
	countNothing(p.Items)
	return p, nil
}

// countNothing fills what nobody measures.
func countNothing(list []*virtualFolder) {
	for _, v := range list {
		v.NumFiles, v.CurSize = new(int32), new(BigInt)
	}
}
