#include "crashdisk.h"

#include "crc32c.h"
#include "must.h"
#include "random.h"
#include "util.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SECTOR = 512,      /* what a disk writes whole, or not */
    NAME_ROOM = 64,    /* longer than any name we give a file */
    STALE_MAX = 8,     /* deleted contents that are remembered */
    FILES_OPEN = 64,   /* more than we ever have */
    TICK_NS = 1000000, /* a call takes a millisecond */
};

static const int64_t BEGAN_NS = INT64_C(1700000000000000000);
static int64_t now_ns;

/* Some bytes, shared: who wants to change them while others hold them makes a copy. */
struct blob {
    unsigned holders;
    size_t len, room;
    uint64_t digest; /* 0: not known */
    char *bytes;
};

struct entry {
    char name[NAME_ROOM];
    size_t inode;
};

struct names {
    struct entry *all; /* owns */
    size_t count, room;
};

/* A file or a directory, as it is and as a crash leaves it if nothing more is synced. */
struct inode {
    bool is_dir;
    struct blob *now, *durable;
    struct names names, durable_names;
    int64_t written_ns, durable_written_ns;
    uint64_t set_aside; /* room for so many bytes from its beginning */
};

enum change_kind { CHANGE_WRITE, CHANGE_TRUNCATE, CHANGE_NAMES };

/* What is not synced. */
struct change {
    enum change_kind kind;
    size_t inode;
    uint64_t offset; /* WRITE; TRUNCATE: the new size */
    struct blob *data;
    char from[NAME_ROOM], to[NAME_ROOM]; /* NAMES: goes, comes; empty: none */
    size_t target;
    bool lost; /* a failed sync has lost it: it never gets to the disk */
};

struct file {
    bool open;
    size_t inode;
    uint64_t at;
    int flags;
};

struct crashdisk {
    struct disk disk;
    struct inode *inodes; /* owns; the first is the root */
    size_t inode_count, inode_room;
    struct change *changes; /* owns */
    size_t change_count, change_room;
    struct blob *stale[STALE_MAX];
    char stale_names[STALE_MAX][NAME_ROOM];
    size_t stale_next;
    struct file files[FILES_OPEN];
    uint64_t limit;
    bool clears; /* what is set aside reads as zeros until it is written */
    void (*before)(void *user, const char *call);
    void *user;
    struct crashdisk_fault fault;
    struct random random;
    uint64_t failed;
};

static struct crashdisk *of(const struct disk *d)
{
    return CONTAINER_OF(d, struct crashdisk, disk);
}

static void *more(void *all, size_t count, size_t *room, size_t size)
{
    if (count < *room)
        return all;
    *room = MAX(2 * *room, (size_t)8);
    all = reallocarray(all, *room, size);
    MUST(all != NULL);
    return all;
}

/* --- blobs --- */

static struct blob *blob_new(const void *bytes, size_t len)
{
    struct blob *b = calloc(1, sizeof *b);

    MUST(b != NULL);
    *b = (struct blob){.holders = 1, .len = len, .room = len};
    b->bytes = malloc(MAX(len, (size_t)1));
    MUST(b->bytes != NULL);
    if (len > 0)
        memcpy(b->bytes, bytes, len);
    return b;
}

static struct blob *blob_hold(struct blob *b)
{
    if (b != NULL)
        b->holders++;
    return b;
}

static void blob_drop(struct blob *b)
{
    if (b == NULL || --b->holders > 0)
        return;
    free(b->bytes);
    free(b);
}

/* Makes *b one that nobody else holds, with zeros up to `len` if it is shorter. */
static void blob_change(struct blob **b, size_t len)
{
    if ((*b)->holders > 1) {
        struct blob *mine = blob_new((*b)->bytes, (*b)->len);
        blob_drop(*b);
        *b = mine;
    }
    (*b)->digest = 0;
    if (len <= (*b)->len)
        return;
    if (len > (*b)->room) {
        (*b)->room = MAX(len, 2 * (*b)->room);
        (*b)->bytes = realloc((*b)->bytes, (*b)->room);
        MUST((*b)->bytes != NULL);
    }
    memset((*b)->bytes + (*b)->len, 0, len - (*b)->len);
    (*b)->len = len;
}

static void blob_cut(struct blob **b, size_t len)
{
    blob_change(b, len);
    (*b)->len = len;
}

static uint64_t blob_digest(struct blob *b)
{
    if (b->digest == 0)
        b->digest = ((uint64_t)crc32c(1, b->bytes, b->len) << 32 | crc32c(7, b->bytes, b->len)) ^
                    (b->len + 1);
    return b->digest;
}

/* What a file is called, or was before a crash; empty: nothing. */
static const char *name_of(const struct crashdisk *d, size_t inode)
{
    for (size_t i = 0; i < d->inode_count; i++) {
        const struct names *names = &d->inodes[i].names;

        for (size_t k = 0; k < names->count; k++)
            if (names->all[k].inode == inode)
                return names->all[k].name;
    }
    return "";
}

/* Blocks that are free now still hold what they held. */
static void remember_stale(struct crashdisk *d, struct blob *b, const char *name)
{
    if (b == NULL || b->len == 0)
        return;
    blob_drop(d->stale[d->stale_next]);
    d->stale[d->stale_next] = blob_hold(b);
    (void)snprintf(d->stale_names[d->stale_next], NAME_ROOM, "%s", name);
    d->stale_next = (d->stale_next + 1) % STALE_MAX;
}

/* --- names --- */

static struct entry *names_find(const struct names *n, const char *name)
{
    for (size_t i = 0; i < n->count; i++)
        if (strcmp(n->all[i].name, name) == 0)
            return &n->all[i];
    return NULL;
}

static void names_remove(struct names *n, const char *name)
{
    struct entry *e = names_find(n, name);

    if (e != NULL)
        *e = n->all[--n->count];
}

static void names_set(struct names *n, const char *name, size_t inode)
{
    struct entry *e = names_find(n, name);

    if (e == NULL) {
        n->all = more(n->all, n->count, &n->room, sizeof(*n->all));
        e = &n->all[n->count++];
        MUST(snprintf(e->name, sizeof e->name, "%s", name) < NAME_ROOM);
    }
    e->inode = inode;
}

static void names_copy(struct names *to, const struct names *from)
{
    *to = (struct names){NULL, from->count, from->count};
    if (from->count == 0)
        return;
    to->all = calloc(from->count, sizeof(*to->all));
    MUST(to->all != NULL);
    memcpy(to->all, from->all, from->count * sizeof(*to->all));
}

static void names_apply(struct names *n, const struct change *c)
{
    if (c->from[0] != '\0')
        names_remove(n, c->from);
    if (c->to[0] != '\0')
        names_set(n, c->to, c->target);
}

/* --- inodes and changes --- */

static size_t inode_new(struct crashdisk *d, bool is_dir)
{
    struct inode *i;

    d->inodes = more(d->inodes, d->inode_count, &d->inode_room, sizeof(*d->inodes));
    i = &d->inodes[d->inode_count];
    *i = (struct inode){.is_dir = is_dir};
    if (!is_dir) {
        i->now = blob_new(NULL, 0);
        i->durable = blob_hold(i->now);
    }
    i->written_ns = i->durable_written_ns = now_ns;
    return d->inode_count++;
}

static struct change *change_new(struct crashdisk *d, enum change_kind kind, size_t inode)
{
    struct change *c;

    d->changes = more(d->changes, d->change_count, &d->change_room, sizeof(*d->changes));
    c = &d->changes[d->change_count++];
    *c = (struct change){.kind = kind, .inode = inode};
    return c;
}

static void forget_changes(struct crashdisk *d, size_t inode)
{
    size_t kept = 0;

    for (size_t i = 0; i < d->change_count; i++) {
        if (d->changes[i].inode == inode)
            blob_drop(d->changes[i].data);
        else
            d->changes[kept++] = d->changes[i];
    }
    d->change_count = kept;
}

static bool has_name(const struct crashdisk *d, size_t inode)
{
    for (size_t i = 0; i < d->inode_count; i++)
        for (size_t k = 0; k < d->inodes[i].names.count; k++)
            if (d->inodes[i].names.all[k].inode == inode)
                return true;
    return inode == 0;
}

static void change_names(struct crashdisk *d, size_t dir, const char *from, const char *to,
                         size_t target)
{
    struct change *c = change_new(d, CHANGE_NAMES, dir);
    const struct entry *old = names_find(&d->inodes[dir].names, to[0] != '\0' ? to : from);
    size_t gone = old != NULL ? old->inode : target;

    MUST(snprintf(c->from, sizeof c->from, "%s", from) < NAME_ROOM);
    MUST(snprintf(c->to, sizeof c->to, "%s", to) < NAME_ROOM);
    c->target = target;
    names_apply(&d->inodes[dir].names, c);
    if (!d->inodes[gone].is_dir && !has_name(d, gone))
        remember_stale(d, d->inodes[gone].now, to[0] != '\0' ? to : from);
}

static void cut(struct crashdisk *d, size_t inode, uint64_t len)
{
    struct inode *i = &d->inodes[inode];

    if (len < i->now->len)
        remember_stale(d, i->now, name_of(d, inode));
    change_new(d, CHANGE_TRUNCATE, inode)->offset = len;
    blob_cut(&i->now, len);
    i->written_ns = now_ns;
}

/* --- faults --- */

/* What every call does first that changes something. */
static int begin(struct crashdisk *d, const char *call)
{
    now_ns += TICK_NS;
    if (d->before != NULL && strcmp(call, "read") != 0)
        d->before(d->user, call);
    if (d->fault.times == 0)
        return 0;
    if (d->fault.until > 0) {
        d->fault.until--;
        return 0;
    }
    d->fault.times--;
    d->failed++;
    return -d->fault.error;
}

/* --- the seam --- */

static struct file *file_of(struct crashdisk *d, int fd)
{
    size_t n = (size_t)(fd - CRASHDISK_FD);

    MUST(fd >= CRASHDISK_FD && n < FILES_OPEN && d->files[n].open);
    return &d->files[n];
}

static struct inode *inode_of(struct crashdisk *d, int fd)
{
    return &d->inodes[file_of(d, fd)->inode];
}

static int open_inode(struct crashdisk *d, size_t inode, int flags)
{
    for (int n = 0; n < FILES_OPEN; n++)
        if (!d->files[n].open) {
            d->files[n] = (struct file){true, inode, 0, flags};
            return CRASHDISK_FD + n;
        }
    return -EMFILE;
}

static int crashdisk_open(const struct disk *disk, int dir_fd, const char *name, int flags,
                          mode_t mode)
{
    struct crashdisk *d = of(disk);
    size_t dir = file_of(d, dir_fd)->inode, inode;
    const struct entry *e;
    int r;

    (void)mode;
    MUST(strchr(name, '/') == NULL && d->inodes[dir].is_dir);
    if (strcmp(name, ".") == 0)
        return open_inode(d, dir, flags);
    e = names_find(&d->inodes[dir].names, name);
    r = begin(d, (flags & (O_CREAT | O_TRUNC)) != 0 ? "open" : "read");
    if (r < 0)
        return r;
    if (e == NULL && (flags & O_CREAT) == 0)
        return -ENOENT;
    if (e != NULL && (flags & O_EXCL) != 0)
        return -EEXIST;
    if (e == NULL) {
        inode = inode_new(d, false);
        change_names(d, dir, "", name, inode);
    } else {
        inode = e->inode;
    }
    if (d->inodes[inode].is_dir && (flags & O_ACCMODE) != O_RDONLY)
        return -EISDIR;
    if (!d->inodes[inode].is_dir && (flags & O_DIRECTORY) != 0)
        return -ENOTDIR;
    if ((flags & O_TRUNC) != 0 && d->inodes[inode].now->len > 0)
        cut(d, inode, 0);
    return open_inode(d, inode, flags);
}

static ssize_t crashdisk_read_at(const struct disk *disk, int fd, void *to, size_t len,
                                 uint64_t offset)
{
    struct crashdisk *d = of(disk);
    const struct inode *i = inode_of(d, fd);
    int r = begin(d, "read");

    if (r < 0)
        return r;
    if (i->is_dir)
        return -EISDIR;
    if (offset >= i->now->len)
        return 0;
    len = MIN(len, i->now->len - offset);
    memcpy(to, i->now->bytes + offset, len);
    return (ssize_t)len;
}

static ssize_t crashdisk_read(const struct disk *disk, int fd, void *to, size_t len)
{
    struct file *f = file_of(of(disk), fd);
    ssize_t n = crashdisk_read_at(disk, fd, to, len, f->at);

    f->at += n > 0 ? (uint64_t)n : 0;
    return n;
}

static void put(struct crashdisk *d, struct file *f, const void *from, size_t len)
{
    struct inode *i = &d->inodes[f->inode];
    struct change *c = change_new(d, CHANGE_WRITE, f->inode);

    if ((f->flags & O_APPEND) != 0)
        f->at = i->now->len;
    c->offset = f->at;
    c->data = blob_new(from, len);
    blob_change(&i->now, f->at + len);
    memcpy(i->now->bytes + f->at, from, len);
    f->at += len;
    i->written_ns = now_ns;
}

static ssize_t crashdisk_write(const struct disk *disk, int fd, const void *from, size_t len)
{
    struct crashdisk *d = of(disk);
    struct file *f = file_of(d, fd);
    uint64_t room = UINT64_MAX;
    int r = begin(d, "write");

    MUST((f->flags & O_ACCMODE) != O_RDONLY);
    if (r < 0) {
        size_t some = r == -ENOSPC || r == -EDQUOT ? 0 : random_below(&d->random, len + 1);

        if (some > 0)
            put(d, f, from, some);
        return r;
    }
    if (d->limit < UINT64_MAX) {
        uint64_t used = crashdisk_used(d);
        uint64_t end = (f->flags & O_APPEND) != 0 ? inode_of(d, fd)->now->len : f->at;
        uint64_t own = inode_of(d, fd)->set_aside;

        room = used < d->limit ? d->limit - used : 0;
        room += own > end ? own - end : 0;
    }
    if (room == 0 && len > 0)
        return -ENOSPC;
    len = MIN(len, room);
    if (len > 0)
        put(d, f, from, len);
    return (ssize_t)len;
}

/* Whatever was written of it is durable, except what an earlier sync has lost. */
static void make_durable(struct crashdisk *d, size_t inode)
{
    struct inode *i = &d->inodes[inode];
    bool any_lost = false, resized = i->durable->len != i->now->len;

    for (size_t n = 0; n < d->change_count; n++) {
        const struct change *c = &d->changes[n];

        any_lost = any_lost || (c->inode == inode && c->lost);
        resized = resized || (c->inode == inode && c->kind == CHANGE_TRUNCATE);
    }
    if (resized)
        i->durable_written_ns = i->written_ns;
    if (any_lost) {
        struct blob *b = blob_hold(i->durable);

        for (size_t n = 0; n < d->change_count; n++) {
            const struct change *c = &d->changes[n];

            if (c->inode != inode)
                continue;
            if (c->kind == CHANGE_TRUNCATE) {
                blob_cut(&b, c->offset);
                continue;
            }
            blob_change(&b, c->offset + c->data->len);
            if (!c->lost)
                memcpy(b->bytes + c->offset, c->data->bytes, c->data->len);
        }
        blob_drop(i->durable);
        i->durable = b;
    } else {
        blob_drop(i->durable);
        i->durable = blob_hold(i->now);
    }
    forget_changes(d, inode);
}

static int crashdisk_sync(const struct disk *disk, int fd)
{
    struct crashdisk *d = of(disk);
    size_t inode = file_of(d, fd)->inode;
    int r = begin(d, "sync");

    MUST(!d->inodes[inode].is_dir);
    if (r < 0) {
        for (size_t n = 0; n < d->change_count; n++)
            if (d->changes[n].inode == inode && d->changes[n].kind == CHANGE_WRITE)
                d->changes[n].lost = d->changes[n].lost || random_below(&d->random, 2) == 0;
        return r;
    }
    make_durable(d, inode);
    return 0;
}

static void keep_names(struct crashdisk *d, size_t inode)
{
    struct inode *i = &d->inodes[inode];

    free(i->durable_names.all);
    names_copy(&i->durable_names, &i->names);
    forget_changes(d, inode);
}

static int crashdisk_sync_dir(const struct disk *disk, int fd)
{
    struct crashdisk *d = of(disk);
    size_t inode = file_of(d, fd)->inode;
    int r = begin(d, "sync_dir");

    MUST(d->inodes[inode].is_dir);
    if (r < 0)
        return r;
    keep_names(d, inode);
    return 0;
}

static int crashdisk_rename(const struct disk *disk, int dir_fd, const char *from, const char *to)
{
    struct crashdisk *d = of(disk);
    size_t dir = file_of(d, dir_fd)->inode;
    const struct entry *e;
    int r = begin(d, "rename");

    if (r < 0)
        return r;
    e = names_find(&d->inodes[dir].names, from);
    if (e == NULL)
        return -ENOENT;
    change_names(d, dir, from, to, e->inode);
    return 0;
}

static int crashdisk_unlink(const struct disk *disk, int dir_fd, const char *name)
{
    struct crashdisk *d = of(disk);
    size_t dir = file_of(d, dir_fd)->inode;
    const struct entry *e;
    int r = begin(d, "unlink");

    if (r < 0)
        return r;
    e = names_find(&d->inodes[dir].names, name);
    if (e == NULL)
        return -ENOENT;
    if (d->inodes[e->inode].is_dir)
        return -EISDIR;
    change_names(d, dir, name, "", e->inode);
    return 0;
}

static int crashdisk_close(const struct disk *disk, int fd)
{
    file_of(of(disk), fd)->open = false;
    return 0;
}

static int crashdisk_truncate(const struct disk *disk, int fd, uint64_t len)
{
    struct crashdisk *d = of(disk);
    struct file *f = file_of(d, fd);
    int r = begin(d, "truncate");

    MUST((f->flags & O_ACCMODE) != O_RDONLY);
    if (r < 0)
        return r;
    cut(d, f->inode, len);
    d->inodes[f->inode].set_aside = 0; /* what is behind the end goes with it */
    return 0;
}

static int crashdisk_size(const struct disk *disk, int fd, uint64_t *ret)
{
    struct crashdisk *d = of(disk);
    int r = begin(d, "read");

    if (r < 0)
        return r;
    *ret = inode_of(d, fd)->is_dir ? 0 : inode_of(d, fd)->now->len;
    return 0;
}

static int crashdisk_mkdir(const struct disk *disk, int dir_fd, const char *name, mode_t mode)
{
    struct crashdisk *d = of(disk);
    size_t dir = file_of(d, dir_fd)->inode;
    int r = begin(d, "mkdir");

    (void)mode;
    if (r < 0)
        return r;
    if (names_find(&d->inodes[dir].names, name) != NULL)
        return -EEXIST;
    change_names(d, dir, "", name, inode_new(d, true));
    return 0;
}

static int crashdisk_written(const struct disk *disk, int fd, int64_t *ret_ns)
{
    struct crashdisk *d = of(disk);
    int r = begin(d, "read");

    if (r < 0)
        return r;
    *ret_ns = inode_of(d, fd)->written_ns;
    return 0;
}

static int crashdisk_set_written(const struct disk *disk, int fd, int64_t ns)
{
    struct crashdisk *d = of(disk);
    int r = begin(d, "set_written");

    if (r < 0)
        return r;
    inode_of(d, fd)->written_ns = ns;
    return 0;
}

static int crashdisk_list(const struct disk *disk, int dir_fd,
                          int (*each)(void *user, const char *name), void *user)
{
    struct crashdisk *d = of(disk);
    struct names names;
    int r = begin(d, "read");

    MUST(inode_of(d, dir_fd)->is_dir);
    if (r < 0)
        return r;
    names_copy(&names, &inode_of(d, dir_fd)->names); /* `each` may change them */
    for (size_t i = 0; i < names.count && r == 0; i++)
        r = each(user, names.all[i].name);
    free(names.all);
    return r;
}

static int crashdisk_free_bytes(const struct disk *disk, int fd, uint64_t *ret)
{
    struct crashdisk *d = of(disk);
    uint64_t used = crashdisk_used(d);
    int r = begin(d, "read");

    (void)fd;
    if (r < 0)
        return r;
    *ret = used < d->limit ? d->limit - used : 0;
    return 0;
}

static int crashdisk_allocate(const struct disk *disk, int fd, uint64_t len)
{
    struct crashdisk *d = of(disk);
    struct inode *i = inode_of(d, fd);
    uint64_t has = MAX(i->set_aside, i->now->len), free_bytes;
    int r = begin(d, "allocate");

    if (r < 0)
        return r;
    free_bytes = d->limit - MIN(d->limit, crashdisk_used(d));
    if (len > has && len - has > free_bytes)
        return -ENOSPC;
    i->set_aside = MAX(i->set_aside, len);
    return 0;
}

/* --- life --- */

static const struct disk crashdisk_calls = {
    .open = crashdisk_open,
    .read = crashdisk_read,
    .write = crashdisk_write,
    .sync = crashdisk_sync,
    .sync_dir = crashdisk_sync_dir,
    .rename = crashdisk_rename,
    .unlink = crashdisk_unlink,
    .close = crashdisk_close,
    .read_at = crashdisk_read_at,
    .truncate = crashdisk_truncate,
    .size = crashdisk_size,
    .mkdir = crashdisk_mkdir,
    .written = crashdisk_written,
    .set_written = crashdisk_set_written,
    .list = crashdisk_list,
    .free_bytes = crashdisk_free_bytes,
    .allocate = crashdisk_allocate,
};

static struct crashdisk *disk_alone(void)
{
    struct crashdisk *d = calloc(1, sizeof *d);

    MUST(d != NULL);
    d->disk = crashdisk_calls;
    d->limit = UINT64_MAX;
    d->files[0] = (struct file){.open = true};
    return d;
}

struct crashdisk *crashdisk_new(void)
{
    struct crashdisk *d = disk_alone();

    now_ns = BEGAN_NS;
    (void)inode_new(d, true);
    return d;
}

struct crashdisk *crashdisk_copy(const struct crashdisk *d)
{
    struct crashdisk *n = disk_alone();

    n->limit = d->limit;
    n->clears = d->clears;
    n->failed = d->failed;
    n->inode_count = n->inode_room = d->inode_count;
    n->inodes = calloc(d->inode_count, sizeof(*n->inodes));
    MUST(n->inodes != NULL);
    for (size_t i = 0; i < d->inode_count; i++) {
        n->inodes[i] = d->inodes[i];
        blob_hold(n->inodes[i].now);
        blob_hold(n->inodes[i].durable);
        names_copy(&n->inodes[i].names, &d->inodes[i].names);
        names_copy(&n->inodes[i].durable_names, &d->inodes[i].durable_names);
    }
    for (size_t i = 0; i < d->change_count; i++) {
        struct change *c = change_new(n, CHANGE_WRITE, 0);
        *c = d->changes[i];
        blob_hold(c->data);
    }
    for (size_t i = 0; i < STALE_MAX; i++)
        n->stale[i] = blob_hold(d->stale[i]);
    n->stale_next = d->stale_next;
    return n;
}

static void inode_done(struct inode *i)
{
    blob_drop(i->now);
    blob_drop(i->durable);
    free(i->names.all);
    free(i->durable_names.all);
    *i = (struct inode){0};
}

void crashdisk_free(struct crashdisk *d)
{
    if (d == NULL)
        return;
    for (size_t i = 0; i < d->inode_count; i++)
        inode_done(&d->inodes[i]);
    for (size_t i = 0; i < d->change_count; i++)
        blob_drop(d->changes[i].data);
    for (size_t i = 0; i < STALE_MAX; i++)
        blob_drop(d->stale[i]);
    free(d->inodes);
    free(d->changes);
    free(d);
}

const struct disk *crashdisk_disk(struct crashdisk *d)
{
    return &d->disk;
}

void crashdisk_watch(struct crashdisk *d, void (*before)(void *user, const char *call), void *user)
{
    d->before = before;
    d->user = user;
}

void crashdisk_flush(struct crashdisk *d)
{
    for (size_t i = 0; i < d->inode_count; i++) {
        if (d->inodes[i].is_dir)
            keep_names(d, i);
        else
            make_durable(d, i);
    }
}

void crashdisk_kill(struct crashdisk *d)
{
    memset(d->files, 0, sizeof d->files);
    d->files[0] = (struct file){.open = true};
}

int64_t crashdisk_now_ns(void)
{
    return now_ns;
}

uint64_t crashdisk_used(const struct crashdisk *d)
{
    uint64_t used = 0;

    for (size_t i = 0; i < d->inode_count; i++)
        if (!d->inodes[i].is_dir && has_name(d, i))
            used += MAX(d->inodes[i].now->len, d->inodes[i].set_aside);
    return used;
}

void crashdisk_limit(struct crashdisk *d, uint64_t bytes)
{
    d->limit = bytes;
}

void crashdisk_fault(struct crashdisk *d, struct crashdisk_fault fault, uint64_t seed)
{
    d->fault = fault;
    d->random.state = seed;
}

void crashdisk_clear(struct crashdisk *d)
{
    d->clears = true;
}

uint64_t crashdisk_failed(const struct crashdisk *d)
{
    return d->failed;
}

/* --- the crash --- */

size_t crashdisk_pending(const struct crashdisk *d)
{
    return d->change_count;
}

size_t crashdisk_pending_len(const struct crashdisk *d, size_t n)
{
    return d->changes[n].kind == CHANGE_WRITE ? d->changes[n].data->len : 0;
}

/* Some content whose blocks are free.  They are soon used again, and where they harm most: for a
 * file of the same name. */
static const struct blob *some_stale(const struct crashdisk *d, const char *name,
                                     struct random *random)
{
    uint64_t what = random_below(random, 4);

    for (size_t i = 0; i < STALE_MAX && what < 2; i++) {
        size_t n = (d->stale_next + STALE_MAX - 1 - i) % STALE_MAX;
        if (what == 0 || strcmp(d->stale_names[n], name) == 0)
            return d->stale[n];
    }
    return d->stale[random_below(random, STALE_MAX)];
}

/* What may stand where nothing was written. */
static void fill(const struct crashdisk *d, const char *name, struct blob *b, size_t from,
                 size_t to, struct random *random)
{
    const struct blob *stale = some_stale(d, name, random);
    uint64_t what = random_below(random, 8);
    size_t shift;

    if (what < 3 || from >= to) /* zeros */
        return;
    if (what == 7) {
        for (size_t i = from; i < to; i++)
            b->bytes[i] = (char)random_next(random);
        return;
    }
    if (stale == NULL)
        return;

    /* The same place of another file, or any of its blocks. */
    shift = what < 6 ? 0 : random_below(random, stale->len / SECTOR + 1) * SECTOR;
    for (size_t i = from; i < to; i++) {
        size_t at = what < 6 ? i : shift + (i - from / SECTOR * SECTOR);
        if (at < stale->len)
            b->bytes[i] = stale->bytes[at];
    }
}

/* How a write is found after the crash. */
enum fate { FATE_LOST, FATE_WHOLE, FATE_HEAD, FATE_TAIL, FATE_SECTORS, FATES };

/* Makes the file as long as `len`; what is new is anything. */
static void extend(const struct crashdisk *d, size_t inode, struct blob **b, size_t len,
                   struct random *random)
{
    size_t old = (*b)->len;

    blob_change(b, len);
    if (!d->clears || d->inodes[inode].set_aside < len)
        fill(d, name_of(d, inode), *b, old, len, random);
}

static void write_part(const struct crashdisk *d, struct blob **b, const struct change *c,
                       size_t from, size_t to, struct random *random)
{
    if (from >= to)
        return;
    extend(d, c->inode, b, MAX((*b)->len, c->offset + from), random);
    blob_change(b, c->offset + to);
    memcpy((*b)->bytes + c->offset + from, c->data->bytes + from, to - from);
}

static void write_sectors(const struct crashdisk *d, struct blob **b, const struct change *c,
                          struct random *random)
{
    for (size_t from = 0, to; from < c->data->len; from = to) {
        to = MIN(((c->offset + from) / SECTOR + 1) * SECTOR - c->offset, c->data->len);
        if (random_below(random, 2) == 0)
            write_part(d, b, c, from, to, random);
    }
}

/* One write reaches the file, as far as its fate lets it: `at` bytes. */
static void crash_write(const struct crashdisk *d, struct inode *i, const struct change *c,
                        enum fate fate, size_t at, bool any, struct random *random)
{
    size_t len = c->data->len;

    switch (fate) {
    case FATE_LOST:
        break;
    case FATE_WHOLE:
        write_part(d, &i->durable, c, 0, len, random);
        break;
    case FATE_HEAD:
        write_part(d, &i->durable, c, 0, at, random);
        break;
    case FATE_TAIL:
        write_part(d, &i->durable, c, at, len, random);
        break;
    case FATE_SECTORS:
        write_sectors(d, &i->durable, c, random);
        break;
    case FATES:
        break;
    }

    /* The size may have got there without the bytes. */
    if (any && fate != FATE_WHOLE && c->offset + len > i->durable->len &&
        random_below(random, 4) == 0)
        extend(d, c->inode, &i->durable, c->offset + len, random);
}

static enum fate fate_of(const struct crashdisk *d, size_t n, struct crash how, unsigned percent,
                         struct random *random)
{
    const struct change *c = &d->changes[n];

    if (c->lost)
        return FATE_LOST;
    switch (how.mode) {
    case CRASH_NONE:
        return FATE_LOST;
    case CRASH_ALL:
        return FATE_WHOLE;
    case CRASH_UPTO:
        return n < how.which ? FATE_WHOLE : FATE_LOST;
    case CRASH_ONLY:
        return n == how.which ? FATE_WHOLE : FATE_LOST;
    case CRASH_BUT:
        return n == how.which ? FATE_LOST : FATE_WHOLE;
    case CRASH_TORN:
        return n < how.which ? FATE_WHOLE : n == how.which ? FATE_HEAD : FATE_LOST;
    case CRASH_RANDOM:
        break;
    }
    if (random_below(random, 100) < percent)
        return FATE_WHOLE;
    return c->kind == CHANGE_WRITE ? random_below(random, FATES) : FATE_LOST;
}

/* Gives up what has no name on `n` any more; its blocks are free. */
static void sweep(struct crashdisk *n)
{
    bool *reached = calloc(n->inode_count, sizeof(*reached));
    size_t *row = calloc(n->inode_count, sizeof(*row)), in = 0, out = 0;

    MUST(reached != NULL && row != NULL);
    row[in++] = 0;
    reached[0] = true;
    while (out < in) {
        const struct names *names = &n->inodes[row[out++]].durable_names;

        for (size_t k = 0; k < names->count; k++) {
            size_t to = names->all[k].inode;
            if (!reached[to]) {
                reached[to] = true;
                row[in++] = to;
            }
        }
    }
    for (size_t i = 0; i < n->inode_count; i++) {
        struct inode *inode = &n->inodes[i];

        if (inode->durable != inode->now)
            remember_stale(n, inode->now, name_of(n, i));
        if (!reached[i]) {
            inode_done(inode);
            inode->is_dir = true; /* nothing, and nobody finds it */
            continue;
        }
        blob_drop(inode->now);
        inode->now = blob_hold(inode->durable);
        free(inode->names.all);
        names_copy(&inode->names, &inode->durable_names);
    }
    free(reached);
    free(row);
}

struct crashdisk *crashdisk_crash(const struct crashdisk *d, struct crash how)
{
    struct crashdisk *n = crashdisk_copy(d);
    struct random random = {how.seed};
    unsigned percent = 10 + (unsigned)random_below(&random, 80);

    for (size_t i = 0; i < d->change_count; i++) {
        const struct change *c = &d->changes[i];
        struct inode *inode = &n->inodes[c->inode];
        enum fate fate = fate_of(d, i, how, percent, &random);

        if (c->kind == CHANGE_NAMES && fate == FATE_WHOLE)
            names_apply(&inode->durable_names, c);
        else if (c->kind == CHANGE_TRUNCATE && fate == FATE_WHOLE)
            blob_cut(&inode->durable, c->offset);
        else if (c->kind == CHANGE_WRITE)
            crash_write(n, inode, c, fate,
                        how.mode == CRASH_TORN ? how.at : random_below(&random, c->data->len + 1),
                        how.mode >= CRASH_TORN, &random);
    }
    for (size_t i = 0; i < n->change_count; i++)
        blob_drop(n->changes[i].data);
    n->change_count = 0;
    for (size_t i = 0; i < n->inode_count; i++) {
        struct inode *inode = &n->inodes[i];

        if (random_below(&random, 2) == 0)
            inode->durable_written_ns = inode->written_ns;
        inode->written_ns = inode->durable_written_ns;
    }
    sweep(n);
    return n;
}

static uint64_t digest_of(const struct crashdisk *d, size_t inode)
{
    const struct inode *i = &d->inodes[inode];
    uint64_t digest = 0;

    if (!i->is_dir)
        return blob_digest(i->now) ^ (uint64_t)i->written_ns;
    for (size_t k = 0; k < i->names.count; k++) { /* in any order */
        const struct entry *e = &i->names.all[k];
        struct random mix = {digest_of(d, e->inode) * 31 +
                             crc32c(3, e->name, strlen(e->name)) * UINT64_C(0x100000001)};
        digest += random_next(&mix);
    }
    return digest + 1;
}

uint64_t crashdisk_digest(const struct crashdisk *d)
{
    return digest_of(d, 0);
}

static void print_below(const struct crashdisk *d, size_t inode, int depth)
{
    const struct names *names = &d->inodes[inode].names;

    for (size_t k = 0; k < names->count; k++) {
        const struct inode *i = &d->inodes[names->all[k].inode];

        printf("%*s%s", 4 * depth, "", names->all[k].name);
        if (i->is_dir)
            printf("/\n");
        else
            printf("  %zu bytes\n", i->now->len);
        if (i->is_dir)
            print_below(d, names->all[k].inode, depth + 1);
    }
}

void crashdisk_print(const struct crashdisk *d)
{
    print_below(d, 0, 1);
    for (size_t i = 0; i < d->change_count; i++) {
        const struct change *c = &d->changes[i];

        if (c->kind == CHANGE_NAMES)
            printf("    not synced: '%s' becomes '%s'\n", c->from, c->to);
        else if (c->kind == CHANGE_TRUNCATE)
            printf("    not synced: a file is cut to %" PRIu64 " bytes\n", c->offset);
        else
            printf("    not synced: %zu bytes at %" PRIu64 "\n", c->data->len, c->offset);
    }
}
