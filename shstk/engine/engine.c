/*
 * Breadth-first exploration of a state space given as decision tables.
 *
 * States are fixed numbers of 64-bit words into which small cells are packed.
 * The tables come from lower.py, which has validated them, so the code here
 * trusts offsets and widths; what it never trusts are values, which trap when
 * a table has no entry for them.
 *
 * Found states are numbered in the order in which they are found and stay in
 * arrays that grow in place.  An open-addressing index of state numbers finds
 * duplicates; it holds no data of its own and is rebuilt from the states when
 * it grows, so old and new index never exist at the same time.
 */
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t i32;

#define MAX_WORDS 16
#define MAX_IDS 8
#define MAX_RECORDS (MAX_IDS * MAX_IDS)
#define MAX_REF_VALUES 32
#define MAX_REFS 64
/* Where there are more ids of a sort, their orders are too many for tables. */
#define MAX_IDS_IN_ROWS 4
#define MAX_NAMINGS 65
#define MAX_ROW_BITS 8
#define VIOLATIONS 64
#define SATURATIONS 32
/* A leaf that only reports what a step violates; its bit in saturated[]. */
#define REPORT (1u << 31)

/* Children of a node: offsets, these three, or LAST_END - number of a leaf. */
#define CHILD_NONE (-1)
#define CHILD_TRAP (-2)
/* The trap for a bit pattern that is no value of the cell at all. */
#define CHILD_PAD (-3)
#define LAST_END (-4)

/*
 * A node that tests has two heads, and a child for each value of their bits, which
 * are those of a word turned right, under a mask; the second head may have none.
 * A choice has one head, - the number of its children.
 */
#define HEAD_WORD(head) ((head) & 15)
#define HEAD_TURN(head) ((head) >> 4 & 63)
#define HEAD_MASK(head) ((head) >> 10 & 0xfff)
#define TEST_HEADS 2
/* The bits of a test that has taken in those below it. */
#define PAIR_BITS 6

/* The first word of a leaf row: first operation, copies, table look-ups. */
#define ROW_FIRST(head) ((u32)(head))
#define ROW_COPIES(head) ((u32)((head) >> 32) & 0xfff)
#define ROW_LOOKUPS(head) ((u32)((head) >> 44) & 0xfff)
#define ROW_MARKED(head) ((head) >> 63)

/* No shifted cell value has all bits set: cells are narrower than words. */
#define TABLE_TRAP (~(u64)0)

/* Set in via[] of states that violate a pruned property. */
#define VIA_UNEXPANDED 0x80000000u
#define VIA_INITIAL 0x7fffffffu
#define NO_STATE 0xffffffffu

#define BATCH 128
#define AHEAD 32
#define RECENT 16384
#define FIRST_STATES 4096
#define FIRST_SLOTS 16384

#define always_inline inline __attribute__((always_inline))

enum status { RUNNING, COMPLETE, MEMORY, STATES, DEPTH, INTERRUPTED, TRAPPED };
enum trap { NO_TRAP, TRAP_STEP, TRAP_UPDATE, TRAP_PREDICATE };
enum hit_kind { NO_HIT, STEP_HIT, STATE_HIT };
enum sort { PLAIN, TASK, MM, ADDR, GROUP, SORTS };

/* Mirrored by ctypes structures of the same names in __init__.py. */
struct tables {
	u32 words, n_pool, n_step_pool, n_roots, n_state_roots, n_actions, stack, fan;
	const i32 *pool, *roots, *state_roots;
	const u64 *rows, *ops, *tabs, *masks;
	const u32 *action, *saturated;
	const u64 *violations, *witnesses;
	u32 ids[SORTS];
	const u32 *kinds[3];
};

struct options {
	u64 prune_mask, max_states, max_bytes, max_depth;
	u32 symmetry;
};

struct hit {
	u32 kind, state, leaf;
};

/* Python polls the counters while the exploration runs. */
struct report {
	u64 states, transitions, pruned, expanded, depth, bytes, peak;
	u64 saturated[SATURATIONS];
	u64 violations, witnesses;
	u32 interrupt, status, trap, trap_state, trap_leaf;
};

/* Memory that grows in place: the kernel moves page tables, not data. */
struct area {
	void *at;
	size_t bytes;
};

struct ref {
	u8 sort, shift, mask;
	bool extras;
};

/*
 * The common shape of the records of one kind, and where each of them lies.
 * ref_top has the highest bit of each reference cell, ref_low the bits below.
 */
struct kind {
	u32 count, n_refs;
	bool extras;
	u64 mask, plain, ref_low, ref_top;
	struct ref ref[MAX_REFS];
	u8 word[MAX_RECORDS], shift[MAX_RECORDS];
};

/*
 * A partial renaming of ids.  map[] takes the value of a reference cell to its
 * new value, 0 while an id has no new name yet; old[] takes new ids to old ids.
 */
struct names {
	u8 map[SORTS][MAX_REF_VALUES];
	u8 old[SORTS][MAX_IDS];
	u8 used[SORTS];
};

/*
 * The orders in which some ids of a sort may have got their names, numbered from
 * the empty one on: what comes if another id is named, the new values of old
 * ones, which ids have a name, and whether all of them have kept theirs.
 */
struct namings {
	u32 n;
	u8 next[MAX_NAMINGS][MAX_IDS_IN_ROWS];
	u8 map[MAX_NAMINGS][MAX_REF_VALUES];
	u8 named[MAX_NAMINGS];
	bool natural[MAX_NAMINGS];
};

/* What a naming makes of references, and what it is when they have been named. */
struct renamed {
	u64 image;
	u32 naming;
};

/*
 * The references to a sort in records of a kind: for each naming a row with an
 * entry for each pattern of the bits from the first to the last of them.
 */
struct lookup {
	struct renamed *rows;
	u32 sort, shift, mask, bits;
};

struct lookups {
	u32 n;
	struct lookup of[SORTS];
};

struct canon {
	struct kind task, group, mapping;
	/* For the quick way to name things, if the bound is small enough for it. */
	bool quick, only_tasks_inside;
	struct namings namings[SORTS];
	struct lookups in_task, in_group, in_mapping;
	u32 ids[SORTS], words;
	/* No names but those of the extra constants. */
	struct names blank;
	/* Whether other records than tasks refer to anything, mappings to addresses. */
	bool inner_refs, maps_to_addrs;

	/* The state at hand. */
	u64 rec[MAX_IDS], key[MAX_IDS], group_rec[MAX_IDS];
	u64 map_rec[MAX_IDS][MAX_IDS];
	/* Ids that group and mapping records refer to, and those that have contents. */
	u32 inner[SORTS], full[SORTS];
	/* Tasks by key, end of the tie at each position, and positions permuted. */
	u8 order[MAX_IDS], tie_end[MAX_IDS];
	u32 fixed;

	/* The candidate in the making. */
	struct names names;
	u64 img[MAX_IDS], group_img[MAX_IDS];
	u64 map_img[MAX_IDS][MAX_IDS];

	/* The least candidate so far, if any; less: img[] is below best_img[]. */
	bool none, less;
	u64 best_img[MAX_IDS], best[MAX_WORDS];
};

/* The successors by the first few leaves that fire. */
struct ahead {
	u32 n;
	bool known[AHEAD];
	u64 words[AHEAD * MAX_WORDS];
};

struct batch {
	u32 n;
	u32 parent[BATCH], leaf[BATCH];
	u64 hash[BATCH], at[BATCH];
	u64 words[BATCH * MAX_WORDS];
};

/* Trees to walk: nodes, and where the trees begin. */
struct trees {
	const i32 *pool, *roots, *state_roots;
};

struct engine {
	struct tables t;
	/* The trees of the tables, and without what has said all that it can. */
	struct trees whole, thin;
	struct options o;
	struct report r;
	struct area states, parent, via, index, levels;
	u64 capacity, slots, room, n_levels;
	size_t scratch;
	struct hit *hits, *witness;
	u64 *seen, *recent;
	/* Memory of the thin trees, and what each offset in the whole ones became. */
	i32 *thin_pool, *thin_place, *thin_roots, *thin_state_roots;
	/* The nodes there, and the heads of the tests that they take in; see pairs. */
	u32 *thin_nodes, n_thin;
	i32 *second;
	struct area pairs;
	/* Has anything been noted since the trees were thinned?  From when on is it worth it? */
	bool news;
	u64 thin_at;
	/* Per action, the last state (plus one) in which it is pruned away. */
	u32 *muted;
	i32 *stack;
	u32 *fired, *reports;
	struct ahead ahead;
	struct batch batch;
	struct canon canon;
};

/* ---- memory ---- */

static size_t page_round(u64 bytes)
{
	return (bytes + 4095) & ~(size_t)4095;
}

/* Grow an area within the budget; it keeps its contents and is zero beyond. */
static bool area_grow(struct engine *e, struct area *a, u64 bytes)
{
	size_t want = page_round(bytes);
	void *at;

	if (want <= a->bytes)
		return true;
	if (e->r.bytes + (want - a->bytes) > e->o.max_bytes)
		return false;
	if (a->at)
		at = mremap(a->at, a->bytes, want, MREMAP_MAYMOVE);
	else
		at = mmap(NULL, want, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED)
		return false;
	/* Random access to a big index would otherwise miss the TLB each time. */
	madvise(at, want, MADV_HUGEPAGE);
	e->r.bytes += want - a->bytes;
	if (e->r.bytes > e->r.peak)
		e->r.peak = e->r.bytes;
	a->at = at;
	a->bytes = want;
	return true;
}

static void area_drop(struct engine *e, struct area *a)
{
	if (a->at)
		munmap(a->at, a->bytes);
	e->r.bytes -= a->bytes;
	a->at = NULL;
	a->bytes = 0;
}

static u64 *state_at(const struct engine *e, u64 i)
{
	return (u64 *)e->states.at + i * e->t.words;
}

static u32 *parents(const struct engine *e)
{
	return e->parent.at;
}

static u32 *vias(const struct engine *e)
{
	return e->via.at;
}

/* ---- packed states ---- */

static always_inline u64 hash_words(const u64 *s, unsigned w)
{
	u64 h = 0;

	for (unsigned i = 0; i < w; i++) {
		h = (h ^ s[i]) * 0x9e3779b97f4a7c15u;
		h ^= h >> 32;
	}
	h *= 0xd6e8feb86659fd93u;
	return h ^ h >> 32;
}

static always_inline bool same_words(const u64 *a, const u64 *b, unsigned w)
{
	u64 differ = 0;

	for (unsigned i = 0; i < w; i++)
		differ |= a[i] ^ b[i];
	return !differ;
}

static always_inline void copy_words(u64 *to, const u64 *from, unsigned w)
{
	for (unsigned i = 0; i < w; i++)
		to[i] = from[i];
}

/* ---- decision tables ---- */

static always_inline u64 turned(u64 word, unsigned by)
{
	return word >> by | word << (-by & 63);
}

/* The child that the node at offset c has for the state. */
static always_inline i32 test_child(const i32 *pool, i32 c, const u64 *s)
{
	u64 a = (u32)pool[c], b = (u32)pool[c + 1];

	a = turned(s[HEAD_WORD(a)], HEAD_TURN(a)) & HEAD_MASK(a);
	b = turned(s[HEAD_WORD(b)], HEAD_TURN(b)) & HEAD_MASK(b);
	return pool[c + TEST_HEADS + (a | b)];
}

/* List the leaves that fire in a state, in order, reports first; -1 if a node traps. */
static always_inline int walk(const struct engine *e, const struct trees *trees, const u64 *s, u32 *fired)
{
	const i32 *pool = trees->pool;
	int n = 0, reports = 0;

	for (u32 r = 0; r < e->t.n_roots; r++) {
		i32 c = trees->roots[r];
		u32 top = 0;

		for (;;) {
			while (c >= 0) {
				if (pool[c] >= 0) {
					c = test_child(pool, c, s);
					continue;
				}
				/* A choice: the first child now, the others later. */
				for (i32 i = -pool[c]; i > 1; i--)
					e->stack[top++] = pool[c + i];
				c = pool[c + 1];
			}
			if (c <= LAST_END) {
				u32 leaf = LAST_END - c;

				if (e->t.saturated[leaf] == REPORT)
					e->reports[reports++] = leaf;
				else
					fired[n++] = leaf;
			} else if (c != CHILD_NONE) {
				return -1;
			}
			if (!top)
				break;
			c = e->stack[--top];
		}
	}
	if (reports) {
		memmove(fired + reports, fired, n * sizeof(*fired));
		memcpy(fired, e->reports, reports * sizeof(*fired));
	}
	return n + reports;
}

/* The state predicates that hold; false if a node traps. */
static always_inline bool judge(const struct engine *e, const struct trees *trees, const u64 *s, u64 mask[2])
{
	mask[0] = mask[1] = 0;
	for (u32 r = 0; r < e->t.n_state_roots; r++) {
		i32 c = trees->state_roots[r];

		while (c >= 0)
			c = test_child(trees->pool, c, s);
		if (c == CHILD_TRAP || c == CHILD_PAD)
			return false;
		if (c <= LAST_END) {
			mask[0] |= e->t.masks[2 * (LAST_END - c)];
			mask[1] |= e->t.masks[2 * (LAST_END - c) + 1];
		}
	}
	return true;
}

static always_inline const u64 *leaf_row(const struct engine *e, u32 leaf, unsigned w)
{
	return e->t.rows + (u64)leaf * (1 + 2 * w);
}

/*
 * The successor by a leaf; false if a table has no entry for a value.
 *
 * A row is: head, the bits that stay (per word), the constants (per word).
 * Copies between equal places, relative to each other, share one rotation.
 */
static always_inline bool apply(const struct engine *e, const u64 *row, const u64 *s,
				u64 *out, unsigned w)
{
	const u64 *op = e->t.ops + 2 * (u64)ROW_FIRST(row[0]);
	u32 n;

	for (unsigned i = 0; i < w; i++)
		out[i] = (s[i] & row[1 + i]) | row[1 + w + i];
	for (n = ROW_COPIES(row[0]); n; n--, op += 2) {
		u64 from = s[op[1] & 15];
		unsigned by = op[1] >> 8 & 63;

		out[op[1] >> 4 & 15] |= (from << by | from >> (-by & 63)) & op[0];
	}
	for (n = ROW_LOOKUPS(row[0]); n; n--, op += 2) {
		u64 value = s[op[1] & 15] >> (op[1] >> 8 & 63);
		u64 result = e->t.tabs[(op[1] >> 32) + (value & op[0])];

		if (result == TABLE_TRAP)
			return false;
		out[op[1] >> 4 & 15] |= result;
	}
	return true;
}

/* ---- symmetry ---- */

/*
 * The canonical form is the least of the candidates, one for each order of the
 * task records that agrees with an id-free key.  An order of the tasks names
 * groups, mms and addresses by first occurrence; what no task refers to comes
 * after that, by content.  Which candidates are looked at depends on nothing
 * but the orbit of the state, so all states of an orbit get the same form.
 */

static always_inline u64 record(const u64 *s, const struct kind *k, unsigned i)
{
	return s[k->word[i]] >> k->shift[i] & k->mask;
}

static always_inline u64 rename(const struct names *names, const struct kind *k, u64 rec)
{
	u64 out = rec & k->plain;

	for (u32 i = 0; i < k->n_refs; i++) {
		struct ref f = k->ref[i];

		out |= (u64)names->map[f.sort][rec >> f.shift & f.mask] << f.shift;
	}
	return out;
}

static always_inline void give_name(struct names *names, unsigned sort, unsigned value)
{
	names->old[sort][names->used[sort]] = value - 1;
	names->map[sort][value] = ++names->used[sort];
}

/* Rename a record, giving names to ids that occur for the first time. */
static always_inline u64 name_and_rename(struct names *names, const struct kind *k, u64 rec)
{
	u64 out = rec & k->plain;

	for (u32 i = 0; i < k->n_refs; i++) {
		struct ref f = k->ref[i];
		unsigned value = rec >> f.shift & f.mask;

		if (value && !names->map[f.sort][value])
			give_name(names, f.sort, value);
		out |= (u64)names->map[f.sort][value] << f.shift;
	}
	return out;
}

/*
 * What a record says without its ids: a reference is NULL, an id or a constant.
 *
 * In each cell, adding ones to the bits below the highest one carries into the
 * highest one unless they are all zero; so one addition finds all NULL cells.
 */
static always_inline u64 id_free(const struct canon *c, const struct kind *k, u64 rec)
{
	u64 key = (rec & k->plain) | ((((rec & k->ref_low) + k->ref_low) | rec) & k->ref_top);

	for (u32 i = 0; k->extras && i < k->n_refs; i++) {
		struct ref f = k->ref[i];
		u64 value = rec >> f.shift & f.mask;

		if (f.extras && value > c->ids[f.sort])
			key |= value << f.shift;
	}
	return key;
}

/* Note which ids a record refers to, as a bit mask per sort. */
static void note_refs(const struct canon *c, const struct kind *k, u64 rec, u32 *held)
{
	for (u32 i = 0; i < k->n_refs; i++) {
		struct ref f = k->ref[i];
		unsigned value = rec >> f.shift & f.mask;

		if (value && value <= c->ids[f.sort])
			held[f.sort] |= 1u << (value - 1);
	}
}

/* Everything has its name: build the candidate and keep it if it is the least. */
static void finish(struct canon *c)
{
	const struct names *n = &c->names;
	const struct kind *k = &c->mapping;
	u64 out[MAX_WORDS] = {0};

	for (u32 i = 0; i < c->task.count; i++)
		out[c->task.word[i]] |= c->img[i] << c->task.shift[i];
	for (u32 i = 0; i < n->used[GROUP]; i++)
		out[c->group.word[i]] |= c->group_img[i] << c->group.shift[i];
	for (u32 m = 0; m < n->used[MM]; m++)
		for (u32 a = 0; a < n->used[ADDR]; a++) {
			u32 at = m * c->ids[ADDR] + a;

			out[k->word[at]] |= c->map_img[m][n->old[ADDR][a]] << k->shift[at];
		}
	for (u32 i = 0; !c->less && i < c->words; i++) {
		if (out[i] > c->best[i])
			return;
		c->less = out[i] < c->best[i];
	}
	if (!c->less)
		return;
	memcpy(c->best, out, sizeof(out));
	memcpy(c->best_img, c->img, sizeof(c->img));
	/* Later candidates for the same order of the tasks are level on them. */
	c->none = c->less = false;
}

static bool column_empty(const struct canon *c, u32 a)
{
	u64 any = 0;

	for (u32 m = 0; m < c->ids[MM]; m++)
		any |= c->map_rec[m][a];
	return !any;
}

static bool column_below(const struct canon *c, u32 a, u32 b)
{
	for (u32 m = 0; m < c->names.used[MM]; m++)
		if (c->map_img[m][a] != c->map_img[m][b])
			return c->map_img[m][a] < c->map_img[m][b];
	return false;
}

/*
 * Name the addresses that nobody refers to by the contents of their columns.
 * Empty columns need no name.  Equal columns are interchangeable.
 */
static void place_columns(struct canon *c)
{
	struct names *n = &c->names;
	u32 first = n->used[ADDR];

	for (u32 a = 0; a < c->ids[ADDR]; a++) {
		u32 i = n->used[ADDR];

		if (n->map[ADDR][a + 1] || column_empty(c, a))
			continue;
		for (; i > first && column_below(c, a, n->old[ADDR][i - 1]); i--)
			n->old[ADDR][i] = n->old[ADDR][i - 1];
		n->old[ADDR][i] = a;
		n->used[ADDR]++;
	}
	finish(c);
	n->used[ADDR] = first;
}

static void rename_maps(struct canon *c)
{
	for (u32 m = 0; m < c->names.used[MM]; m++)
		for (u32 a = 0; a < c->ids[ADDR]; a++)
			c->map_img[m][a] = rename(&c->names, &c->mapping,
						  c->map_rec[c->names.old[MM][m]][a]);
}

/*
 * Mapping records that refer to addresses make the columns depend on the names
 * we are about to give: try all orders of the addresses that matter.
 */
static void place_addrs(struct canon *c)
{
	struct names saved = c->names;
	bool placed = false;

	for (u32 a = 0; a < c->ids[ADDR]; a++) {
		if (c->names.map[ADDR][a + 1])
			continue;
		if (!(c->inner[ADDR] >> a & 1) && column_empty(c, a))
			continue;
		give_name(&c->names, ADDR, a + 1);
		place_addrs(c);
		c->names = saved;
		placed = true;
	}
	if (placed)
		return;
	rename_maps(c);
	finish(c);
}

static bool mm_matters(const struct canon *c, u32 m)
{
	u64 any = c->inner[MM] >> m & 1;

	for (u32 a = 0; a < c->ids[ADDR]; a++)
		any |= c->map_rec[m][a];
	return any;
}

/* Name the mms that no task refers to, in all orders, and go on. */
static void place_mms(struct canon *c)
{
	bool placed = false;

	for (u32 m = 0; c->names.used[MM] < c->ids[MM] && m < c->ids[MM]; m++) {
		struct names saved;

		if (c->names.map[MM][m + 1] || !mm_matters(c, m))
			continue;
		saved = c->names;
		give_name(&c->names, MM, m + 1);
		place_mms(c);
		c->names = saved;
		placed = true;
	}
	if (placed)
		return;
	rename_maps(c);
	if (c->maps_to_addrs)
		place_addrs(c);
	else
		place_columns(c);
}

/* Groups are in order: rename them, which may name mms and addresses. */
static void scan_groups(struct canon *c)
{
	for (u32 i = 0; i < c->names.used[GROUP]; i++)
		c->group_img[i] = name_and_rename(&c->names, &c->group,
						  c->group_rec[c->names.old[GROUP][i]]);
	place_mms(c);
}

/*
 * Name the groups that no task refers to, in all orders, and go on.  Only a
 * group that is empty and that nothing refers to needs no name.
 */
static void place_groups(struct canon *c)
{
	bool placed = false;

	for (u32 g = 0; c->names.used[GROUP] < c->ids[GROUP] && g < c->ids[GROUP]; g++) {
		struct names saved;

		if (c->names.map[GROUP][g + 1])
			continue;
		if (!c->group_rec[g] && !(c->inner[GROUP] >> g & 1))
			continue;
		saved = c->names;
		give_name(&c->names, GROUP, g + 1);
		place_groups(c);
		c->names = saved;
		placed = true;
	}
	if (!placed)
		scan_groups(c);
}

/* Build the candidates for the order of the tasks in c->order. */
static void try_order(struct canon *c)
{
	bool less = c->none;

	c->names = c->blank;
	for (u32 i = 0; i < c->task.count; i++)
		give_name(&c->names, TASK, c->order[i] + 1);
	for (u32 i = 0; i < c->task.count; i++) {
		u64 img = name_and_rename(&c->names, &c->task, c->rec[c->order[i]]);

		if (!less && img > c->best_img[i])
			return;
		less |= img < c->best_img[i];
		c->img[i] = img;
	}
	c->less = less;
	place_groups(c);
}

static void swap_tasks(struct canon *c, u32 i, u32 j)
{
	u8 t = c->order[i];

	c->order[i] = c->order[j];
	c->order[j] = t;
}

/* Try all orders of the tasks that keep to the ties and to the fixed positions. */
static void permute(struct canon *c)
{
	u32 i = c->fixed++;

	if (i < c->task.count) {
		permute(c);
		for (u32 j = i + 1; j < c->tie_end[i]; j++) {
			swap_tasks(c, i, j);
			permute(c);
			swap_tasks(c, i, j);
		}
	} else {
		try_order(c);
	}
	c->fixed = i;
}

/* Sort the tasks by key; returns at which positions the key is the one before. */
static always_inline u32 sort_tasks(struct canon *c)
{
	u32 ties = 0;

	for (u32 i = 0; i < c->task.count; i++) {
		u64 key = c->key[i];
		u32 j = i;

		for (; j && c->key[c->order[j - 1]] > key; j--)
			c->order[j] = c->order[j - 1];
		c->order[j] = i;
	}
	for (u32 i = 1; i < c->task.count; i++)
		ties |= (u32)(c->key[c->order[i - 1]] == c->key[c->order[i]]) << i;
	return ties;
}

/* Equal records that nobody refers to are interchangeable: any order will do. */
static bool interchangeable(const struct canon *c, u32 from, u32 to, u32 held)
{
	for (u32 i = from; i < to; i++)
		if (c->rec[c->order[i]] != c->rec[c->order[from]] || held >> c->order[i] & 1)
			return false;
	return true;
}

static void find_ties(struct canon *c, u32 held)
{
	u32 n = c->task.count;

	for (u32 from = 0, to; from < n; from = to) {
		u64 key = c->key[c->order[from]];
		u32 end;

		for (to = from + 1; to < n && c->key[c->order[to]] == key; to++)
			;
		end = interchangeable(c, from, to, held) ? from : to;
		for (u32 i = from; i < to; i++)
			c->tie_end[i] = end;
	}
}

static void load_state(struct canon *c, const u64 *s)
{
	u32 at = 0;

	for (u32 i = 0; i < c->task.count; i++) {
		c->rec[i] = record(s, &c->task, i);
		c->key[i] = id_free(c, &c->task, c->rec[i]);
	}
	c->full[GROUP] = c->full[MM] = c->full[ADDR] = 0;
	for (u32 i = 0; i < c->group.count; i++) {
		c->group_rec[i] = record(s, &c->group, i);
		c->full[GROUP] |= (u32)(c->group_rec[i] != 0) << i;
	}
	for (u32 m = 0; m < c->ids[MM]; m++)
		for (u32 a = 0; a < c->ids[ADDR]; a++) {
			c->map_rec[m][a] = record(s, &c->mapping, at++);
			c->full[MM] |= (u32)(c->map_rec[m][a] != 0) << m;
			c->full[ADDR] |= (u32)(c->map_rec[m][a] != 0) << a;
		}
}

static void note_inner_refs(struct canon *c)
{
	memset(c->inner, 0, sizeof(c->inner));
	for (u32 i = 0; i < c->group.count; i++)
		note_refs(c, &c->group, c->group_rec[i], c->inner);
	for (u32 m = 0; m < c->ids[MM]; m++)
		for (u32 a = 0; a < c->ids[ADDR]; a++)
			note_refs(c, &c->mapping, c->map_rec[m][a], c->inner);
}

/* The least of all candidates. */
static __attribute__((noinline)) void least_form(struct canon *c, bool ties)
{
	u32 held[SORTS];

	c->none = true;
	if (c->inner_refs)
		note_inner_refs(c);
	if (!ties) {
		try_order(c);
		return;
	}
	memcpy(held, c->inner, sizeof(held));
	for (u32 i = 0; i < c->task.count; i++)
		note_refs(c, &c->task, c->rec[i], held);
	find_ties(c, held[TASK]);
	permute(c);
}

static always_inline const struct renamed *look_up(const struct lookup *l, u32 naming, u64 rec)
{
	return l->rows + ((u64)naming << l->bits | (rec >> l->shift & l->mask));
}

/* Rename a record; *nameless is set if it refers to something that has no name. */
static always_inline u64 rename_quickly(u64 plain, const struct lookups *l, u64 rec,
					const u32 *naming, bool *nameless)
{
	u64 out = rec & plain;

	for (u32 i = 0; i < l->n; i++) {
		u32 known = naming[l->of[i].sort];
		const struct renamed *r = look_up(&l->of[i], known, rec);

		out |= r->image;
		*nameless |= r->naming != known;
	}
	return out;
}

/* What has contents but no name yet gets the next one; false if there are several. */
static always_inline bool name_the_last(const struct canon *c, unsigned sort, u32 *naming)
{
	const struct namings *all = &c->namings[sort];
	u32 rest = c->full[sort] & ~(u32)all->named[naming[sort]];

	if (rest)
		naming[sort] = all->next[naming[sort]][__builtin_ctz(rest)];
	return !(rest & (rest - 1));
}

/* Name everything by the tasks in order; false if that leaves a choice. */
static always_inline bool name_all(const struct canon *c, u32 *naming)
{
	const struct lookups *l = &c->in_task;

	naming[TASK] = 0;
	for (u32 i = 0; i < c->task.count; i++)
		naming[TASK] = c->namings[TASK].next[naming[TASK]][c->order[i]];
	for (u32 i = 0; i < l->n; i++) {
		u32 sort = l->of[i].sort, known = 0;

		if (sort == TASK)
			continue;
		for (u32 j = 0; j < c->task.count; j++)
			known = look_up(&l->of[i], known, c->rec[c->order[j]])->naming;
		naming[sort] = known;
	}
	return name_the_last(c, MM, naming) && name_the_last(c, ADDR, naming) &&
	       name_the_last(c, GROUP, naming);
}

static always_inline bool all_natural(const struct canon *c, const u32 *naming)
{
	return c->namings[TASK].natural[naming[TASK]] & c->namings[MM].natural[naming[MM]] &
	       c->namings[ADDR].natural[naming[ADDR]] & c->namings[GROUP].natural[naming[GROUP]];
}

/* The new number of what has contents. */
static always_inline u32 new_place(const struct canon *c, unsigned sort, u32 id, const u32 *naming)
{
	return c->namings[sort].map[naming[sort]][id + 1] - 1;
}

/*
 * Put the only candidate together, if the tasks' order is the only one and leaves
 * no choice of names; returns whether that is so.
 */
static always_inline bool only_form(const struct canon *c, const u64 *s, u64 *out, unsigned w)
{
	u32 naming[SORTS] = {0};
	bool nameless = false;

	if (!name_all(c, naming))
		return false;
	if (c->only_tasks_inside && all_natural(c, naming)) {
		copy_words(out, s, w);
		return true;
	}
	for (unsigned i = 0; i < w; i++)
		out[i] = 0;
	for (u32 i = 0; i < c->task.count; i++)
		out[c->task.word[i]] |= rename_quickly(c->task.plain, &c->in_task,
						       c->rec[c->order[i]], naming, &nameless)
					<< c->task.shift[i];
	for (u32 full = c->full[GROUP]; full; full &= full - 1) {
		u32 g = __builtin_ctz(full), at = new_place(c, GROUP, g, naming);

		out[c->group.word[at]] |= rename_quickly(c->group.plain, &c->in_group,
							 c->group_rec[g], naming, &nameless)
					  << c->group.shift[at];
	}
	for (u32 m = 0; m < c->ids[MM]; m++)
		for (u32 a = 0; a < c->ids[ADDR]; a++) {
			u64 rec = c->map_rec[m][a];
			u32 at;

			if (!rec)
				continue;
			at = new_place(c, MM, m, naming) * c->ids[ADDR] +
			     new_place(c, ADDR, a, naming);
			out[c->mapping.word[at]] |= rename_quickly(c->mapping.plain, &c->in_mapping,
								   rec, naming, &nameless)
						    << c->mapping.shift[at];
		}
	return !nameless;
}

/* The order of candidates: first by the tasks' records, then by words. */
static always_inline bool form_below(const struct canon *c, const u64 *a, const u64 *b, unsigned w)
{
	for (u32 i = 0; i < c->task.count; i++)
		if (record(a, &c->task, i) != record(b, &c->task, i))
			return record(a, &c->task, i) < record(b, &c->task, i);
	for (unsigned i = 0; i < w; i++)
		if (a[i] != b[i])
			return a[i] < b[i];
	return false;
}

/* The lesser of two candidates, if two tasks tie, and nothing else leaves a choice. */
static bool lesser_form(struct canon *c, u32 at, const u64 *s, u64 *out, unsigned w)
{
	u64 other[MAX_WORDS];
	bool done = only_form(c, s, out, w);

	if (!done)
		return false;
	swap_tasks(c, at - 1, at);
	done = only_form(c, s, other, w);
	swap_tasks(c, at - 1, at);
	if (done && form_below(c, other, out, w))
		copy_words(out, other, w);
	return done;
}

static always_inline void canonical(struct canon *c, const u64 *s, u64 *out, unsigned w)
{
	u64 form[MAX_WORDS];
	u32 ties;
	bool done = false;

	load_state(c, s);
	ties = sort_tasks(c);
	if (c->quick && !ties)
		done = only_form(c, s, form, w);
	else if (c->quick && !(ties & (ties - 1)))
		done = lesser_form(c, __builtin_ctz(ties), s, form, w);
	if (!done)
		least_form(c, ties);
	copy_words(out, done ? form : c->best, w);
}

static void load_ref(struct kind *k, struct ref *f, const u32 *from)
{
	u32 shift = from[1], width = from[2];
	u64 mask = (1u << width) - 1;

	f->sort = from[0];
	f->shift = shift;
	f->mask = mask;
	f->extras = from[3];
	k->plain &= ~(mask << shift);
	k->ref_low |= mask >> 1 << shift;
	k->ref_top |= (u64)1 << (shift + width - 1);
}

/*
 * A kind comes as: count, mask (low and high half), number of references,
 * (sort, shift, width, extras) of each, (word, shift) of each record.
 */
static void load_kind(struct kind *k, const u32 *from)
{
	k->count = *from++;
	k->mask = *from++;
	k->mask |= (u64)*from++ << 32;
	k->plain = k->mask;
	k->n_refs = *from++;
	for (u32 i = 0; i < k->n_refs; i++, from += 4) {
		load_ref(k, &k->ref[i], from);
		k->extras |= k->ref[i].extras;
	}
	for (u32 i = 0; i < k->count; i++, from += 2) {
		k->word[i] = from[0];
		k->shift[i] = from[1];
	}
}

/* Number the orders of up to n ids, shorter ones first. */
static void list_namings(struct namings *all, u32 n)
{
	all->n = 1;
	all->natural[0] = true;
	for (u32 value = n + 1; value < MAX_REF_VALUES; value++)
		all->map[0][value] = value;
	for (u32 at = 0; at < all->n; at++)
		for (u32 id = 0; id < n; id++) {
			u32 next = all->n, named = all->named[at];

			if (named >> id & 1)
				continue;
			memcpy(all->map[next], all->map[at], sizeof(all->map[at]));
			all->map[next][id + 1] = __builtin_popcount(named) + 1;
			all->named[next] = named | 1u << id;
			all->natural[next] = all->natural[at] && named == (1u << id) - 1;
			all->next[at][id] = next;
			all->n++;
		}
}

/* Fill an entry of a row: go through the references in order, as a record has them. */
static void fill_renamed(const struct kind *k, const struct namings *all, u32 sort, u64 rec,
			 struct renamed *out)
{
	for (u32 i = 0; i < k->n_refs; i++) {
		struct ref f = k->ref[i];
		u64 value = rec >> f.shift & f.mask;

		if (f.sort != sort)
			continue;
		if (value && !all->map[out->naming][value])
			out->naming = all->next[out->naming][value - 1];
		out->image |= (u64)all->map[out->naming][value] << f.shift;
	}
}

/* Make the rows for the references to a sort; false if they are too many, or no memory. */
static bool make_rows(struct lookups *lookups, const struct kind *k, const struct namings *all,
		      u32 sort)
{
	struct lookup *l = &lookups->of[lookups->n];
	u64 refs = 0;

	for (u32 i = 0; i < k->n_refs; i++)
		if (k->ref[i].sort == sort)
			refs |= (u64)k->ref[i].mask << k->ref[i].shift;
	if (!refs)
		return true;
	l->sort = sort;
	l->shift = __builtin_ctzll(refs);
	if (refs >> l->shift >> MAX_ROW_BITS)
		return false;
	/* What lies between the references is not looked at. */
	l->mask = refs >> l->shift;
	l->bits = 32 - __builtin_clz(l->mask);
	l->rows = calloc((u64)all->n << l->bits, sizeof(*l->rows));
	if (!l->rows)
		return false;
	lookups->n++;
	for (u32 i = 0; i < all->n << l->bits; i++) {
		u64 pattern = i & ((1u << l->bits) - 1);

		l->rows[i].naming = i >> l->bits;
		fill_renamed(k, all, sort, pattern << l->shift, &l->rows[i]);
	}
	return true;
}

/* Prepare the quick way; only tasks may give names there to anything but groups. */
static bool make_quick(struct canon *c)
{
	for (u32 i = 0; i < c->group.n_refs; i++)
		if (c->group.ref[i].sort == MM || c->group.ref[i].sort == ADDR)
			return false;
	for (u32 sort = TASK; sort < SORTS; sort++) {
		if (c->ids[sort] > MAX_IDS_IN_ROWS)
			return false;
		list_namings(&c->namings[sort], c->ids[sort]);
		if (!make_rows(&c->in_task, &c->task, &c->namings[sort], sort) ||
		    !make_rows(&c->in_group, &c->group, &c->namings[sort], sort) ||
		    !make_rows(&c->in_mapping, &c->mapping, &c->namings[sort], sort))
			return false;
	}
	return true;
}

static void free_rows(struct lookups *l)
{
	for (u32 i = 0; i < l->n; i++)
		free(l->of[i].rows);
}

static void canon_free(struct canon *c)
{
	free_rows(&c->in_task);
	free_rows(&c->in_group);
	free_rows(&c->in_mapping);
}

static void canon_init(struct canon *c, const struct tables *t)
{
	load_kind(&c->task, t->kinds[0]);
	load_kind(&c->group, t->kinds[1]);
	load_kind(&c->mapping, t->kinds[2]);
	memcpy(c->ids, t->ids, sizeof(c->ids));
	c->words = t->words;
	c->inner_refs = c->group.n_refs || c->mapping.n_refs;
	for (u32 i = 0; i < c->mapping.n_refs; i++)
		c->maps_to_addrs |= c->mapping.ref[i].sort == ADDR;
	for (u32 sort = TASK; sort < SORTS; sort++)
		for (u32 value = c->ids[sort] + 1; value < MAX_REF_VALUES; value++)
			c->blank.map[sort][value] = value;
	c->quick = make_quick(c);
	c->only_tasks_inside = true;
	for (u32 i = 0; i < c->group.n_refs; i++)
		c->only_tasks_inside &= c->group.ref[i].sort == TASK;
	for (u32 i = 0; i < c->mapping.n_refs; i++)
		c->only_tasks_inside &= c->mapping.ref[i].sort == TASK;
}

/* ---- the set of states ---- */

/*
 * A slot of the index has the number of a state plus one, 0 if it is empty.  The
 * bits that such numbers cannot have in an index of this size hold a part of the
 * state's hash: a state that only lies in the way is seldom looked at.
 */

static always_inline u32 slot_tag(const struct engine *e, u64 hash)
{
	return hash >> 32 & ~(u32)(e->slots - 1);
}

static always_inline u64 slot_state(const struct engine *e, u32 slot)
{
	return (slot & (u32)(e->slots - 1)) - 1;
}

static always_inline u64 first_slot(const struct engine *e, u64 hash)
{
	return hash & (e->slots - 1);
}

/* From a slot on, the next one that is empty or may be the state's. */
static always_inline u64 likely_slot(const struct engine *e, u64 at, u64 hash)
{
	const u32 *index = e->index.at;
	u32 tag = slot_tag(e, hash), tag_bits = ~(u32)(e->slots - 1);

	while (index[at] && (index[at] ^ tag) & tag_bits)
		at = (at + 1) & (e->slots - 1);
	return at;
}

/* The slot of a state, or the empty slot where it belongs; from a likely one on. */
static always_inline u64 find_slot(const struct engine *e, const u64 *s, u64 hash, u64 at,
				   unsigned w)
{
	const u32 *index = e->index.at;
	const u64 *states = e->states.at;

	while (index[at] && !same_words(states + slot_state(e, index[at]) * w, s, w))
		at = likely_slot(e, (at + 1) & (e->slots - 1), hash);
	return at;
}

static u32 find_state(const struct engine *e, const u64 *s)
{
	unsigned w = e->t.words;
	u64 hash = hash_words(s, w), at;
	u32 slot;

	if (!e->slots)
		return NO_STATE;
	at = find_slot(e, s, hash, likely_slot(e, first_slot(e, hash), hash), w);
	slot = ((u32 *)e->index.at)[at];
	return slot ? slot_state(e, slot) : NO_STATE;
}

/* Enter all states into an empty index, in blocks so that misses overlap. */
static void fill_index(struct engine *e)
{
	u32 *index = e->index.at;
	u64 hash[BATCH];

	for (u64 from = 0; from < e->r.states; from += BATCH) {
		u64 n = e->r.states - from < BATCH ? e->r.states - from : BATCH;

		for (u64 i = 0; i < n; i++) {
			hash[i] = hash_words(state_at(e, from + i), e->t.words);
			__builtin_prefetch(index + first_slot(e, hash[i]), 1);
		}
		for (u64 i = 0; i < n; i++) {
			u64 at = first_slot(e, hash[i]);

			while (index[at])
				at = (at + 1) & (e->slots - 1);
			index[at] = slot_tag(e, hash[i]) | (u32)(from + i + 1);
		}
	}
}

static bool grow_index(struct engine *e)
{
	u64 slots = e->slots ? 2 * e->slots : FIRST_SLOTS;
	u64 more = page_round(slots * sizeof(u32)) - e->index.bytes;

	if (e->r.bytes + more > e->o.max_bytes)
		return false;
	/* The old index goes first: the states are all that is needed. */
	area_drop(e, &e->index);
	e->slots = 0;
	if (!area_grow(e, &e->index, slots * sizeof(u32)))
		return false;
	e->slots = slots;
	fill_index(e);
	return true;
}

static bool grow_states(struct engine *e, u64 capacity)
{
	if (!area_grow(e, &e->states, capacity * e->t.words * sizeof(u64)) ||
	    !area_grow(e, &e->parent, capacity * sizeof(u32)) ||
	    !area_grow(e, &e->via, capacity * sizeof(u32)))
		return false;
	e->capacity = capacity;
	return true;
}

/* Make room for at least one more state; says why if that cannot be done. */
static enum status make_room(struct engine *e)
{
	u64 n = e->r.states, limit;

	if (n >= e->o.max_states)
		return STATES;
	/* By an eighth, or by what a tight budget still has room for. */
	for (u64 more = n / 8 + FIRST_STATES; n >= e->capacity; more /= 2)
		if (!more || grow_states(e, n + more))
			break;
	if (n >= e->capacity)
		return MEMORY;
	if (n >= e->slots / 8 * 5 && !grow_index(e) && n >= e->slots / 8 * 7)
		return MEMORY;
	limit = e->slots / 8 * (n >= e->slots / 8 * 5 ? 7 : 5);
	e->room = limit < e->capacity ? limit : e->capacity;
	if (e->room > e->o.max_states)
		e->room = e->o.max_states;
	return RUNNING;
}

/* ---- hits ---- */

/* Record predicates that hold for the first time (violations: per action). */
static void note_masks(struct engine *e, const u64 mask[2], u32 action, u32 kind, u32 state,
		       u32 leaf)
{
	u64 bad = mask[0] & ~e->seen[action], good = mask[1] & ~e->r.witnesses;
	struct hit hit = {kind, state, leaf};

	for (; bad; bad &= bad - 1)
		e->hits[(u64)action * VIOLATIONS + __builtin_ctzll(bad)] = hit;
	for (; good; good &= good - 1)
		e->witness[__builtin_ctzll(good)] = hit;
	e->seen[action] |= mask[0];
	e->news = true;
	e->r.violations |= mask[0];
	e->r.witnesses |= mask[1];
}

static enum status trapped(struct engine *e, u32 trap, u32 state, u32 leaf)
{
	e->r.trap = trap;
	e->r.trap_state = state;
	e->r.trap_leaf = leaf;
	return TRAPPED;
}

/* Evaluate the state predicates on a new state. */
static always_inline enum status judge_state(struct engine *e, u32 state)
{
	u32 leaf = vias(e)[state], action = e->t.n_actions;
	u64 mask[2];

	if (!judge(e, &e->thin, state_at(e, state), mask))
		return trapped(e, TRAP_PREDICATE, state, leaf);
	if (!(mask[0] | mask[1]))
		return RUNNING;
	if (leaf != VIA_INITIAL)
		action = e->t.action[leaf];
	note_masks(e, mask, action, STATE_HIT, state, leaf);
	if (mask[0] & e->o.prune_mask)
		vias(e)[state] |= VIA_UNEXPANDED;
	return RUNNING;
}

/* ---- trees that thin out ---- */

/*
 * Only what is seen for the first time counts, and most of what a program reports is
 * seen soon.  What a leaf or mask has said is not asked again: it is left out, and so
 * are the nodes that lead nowhere else.  Traps stay, but for bit patterns that no
 * value of a cell has.
 */

static bool leaf_is_done(const struct engine *e, u32 leaf)
{
	u64 bad = e->t.violations[leaf], good = e->t.witnesses[leaf];

	return e->t.saturated[leaf] == REPORT && (bad | good) && !(bad & e->o.prune_mask) &&
	       !(bad & ~e->seen[e->t.action[leaf]]) && !(good & ~e->r.witnesses);
}

/* A violation may be the first one of yet another action. */
static bool mask_is_done(const struct engine *e, u32 mask)
{
	return !e->t.masks[2 * mask] && !(e->t.masks[2 * mask + 1] & ~e->r.witnesses);
}

/* What a child has become; steps: in a tree that ends in leaves, not in masks. */
static i32 thin_child(const struct engine *e, i32 c, bool steps)
{
	if (c >= 0)
		return e->thin_place[c];
	if (c > LAST_END)
		return c;
	return (steps ? leaf_is_done : mask_is_done)(e, LAST_END - c) ? CHILD_NONE : c;
}

/* Write a node's children that are still there; returns their number. */
static i32 thin_choice(struct engine *e, const i32 *from, i32 n, i32 *to)
{
	i32 left = 0;

	for (i32 i = 0; i < n; i++) {
		to[left] = thin_child(e, from[i], true);
		left += to[left] != CHILD_NONE;
	}
	return left;
}

/* The same for a test, whose children keep their places. */
static i32 thin_test(struct engine *e, const i32 *from, i32 n, i32 *to, bool steps)
{
	i32 left = 0;

	for (i32 i = 0; i < n; i++) {
		to[i] = thin_child(e, from[i], steps);
		left += to[i] != CHILD_NONE && to[i] != CHILD_PAD;
	}
	return left;
}

/* Copy the trees without what is done, and list the nodes that are left. */
static void thin_nodes(struct engine *e)
{
	const i32 *pool = e->t.pool;
	i32 *to = e->thin_pool;
	u32 size;

	e->n_thin = 0;
	/* Children come before parents. */
	for (u32 at = 0; at < e->t.n_pool; at += size) {
		bool steps = at < e->t.n_step_pool, choice = pool[at] < 0;
		u32 heads = choice ? 1 : TEST_HEADS;
		i32 n = choice ? -pool[at] : (i32)HEAD_MASK(pool[at]) + 1;
		i32 left = choice ? thin_choice(e, pool + at + heads, n, to + heads)
				  : thin_test(e, pool + at + heads, n, to + heads, steps);

		size = heads + n;
		if (!left || (choice && left == 1)) {
			e->thin_place[at] = left ? to[heads] : CHILD_NONE;
			continue;
		}
		to[0] = choice ? -left : pool[at];
		if (!choice)
			to[1] = 0;
		e->thin_place[at] = to - e->thin_pool;
		e->thin_nodes[e->n_thin++] = to - e->thin_pool;
		to += heads + (choice ? left : n);
	}
}

/*
 * Each test waits for the one before, so a test then takes in the tests below it that
 * ask for one and the same other cell.
 */

/* The head of the test that most children of a test begin with; 0 if it has no room for it. */
static i32 second_head(const i32 *pool, u32 at)
{
	u32 n = HEAD_MASK(pool[at]) + 1, most = 0;
	const i32 *child = pool + at + TEST_HEADS;
	i32 best = 0;

	for (u32 i = 0; i < n; i++) {
		u32 same = 0;

		if (child[i] < 0 || pool[child[i]] < 0 ||
		    n * (HEAD_MASK(pool[child[i]]) + 1) > 1u << PAIR_BITS)
			continue;
		for (u32 j = 0; j < n; j++)
			same += child[j] >= 0 && pool[child[j]] == pool[child[i]];
		if (same > most) {
			most = same;
			best = pool[child[i]];
		}
	}
	return best;
}

/* The child of a test of two cells, given the values of both. */
static i32 pair_child(const i32 *pool, u32 at, i32 second, u32 value)
{
	u32 mask = HEAD_MASK(pool[at]);
	i32 c = pool[at + TEST_HEADS + (value & mask)];

	if (!second || c < 0 || pool[c] != second)
		return c;
	return pool[c + TEST_HEADS + value / (mask + 1)];
}

/* How many children a node has when it is paired, and which one is at a place. */
static u32 pair_size(const i32 *pool, u32 at, i32 second)
{
	if (pool[at] < 0)
		return -pool[at];
	return (HEAD_MASK(pool[at]) + 1) * (second ? HEAD_MASK(second) + 1 : 1);
}

static i32 pair_member(const i32 *pool, u32 at, i32 second, u32 i)
{
	return pool[at] < 0 ? pool[at + 1 + i] : pair_child(pool, at, second, i);
}

/*
 * Choose what each node takes in, and mark the nodes that are still reached from the
 * roots, parents first; returns the size of the pool.
 */
static u64 choose_pairs(struct engine *e)
{
	const i32 *pool = e->thin_pool;
	u64 size = 0;

	memset(e->thin_place, 0, e->t.n_pool * sizeof(*e->thin_place));
	for (u32 r = 0; r < e->t.n_roots; r++)
		if (e->thin_roots[r] >= 0)
			e->thin_place[e->thin_roots[r]] = 1;
	for (u32 r = 0; r < e->t.n_state_roots; r++)
		if (e->thin_state_roots[r] >= 0)
			e->thin_place[e->thin_state_roots[r]] = 1;
	for (u32 i = e->n_thin; i--;) {
		u32 at = e->thin_nodes[i], n;

		if (!e->thin_place[at])
			continue;
		e->second[i] = pool[at] < 0 ? 0 : second_head(pool, at);
		n = pair_size(pool, at, e->second[i]);
		size += n + (pool[at] < 0 ? 1 : TEST_HEADS);
		for (u32 j = 0; j < n; j++) {
			i32 c = pair_member(pool, at, e->second[i], j);

			if (c >= 0)
				e->thin_place[c] = 1;
		}
	}
	return size;
}

/* A head for the bits above those of another one. */
static i32 head_above(i32 head, u32 mask)
{
	u32 up = 32 - __builtin_clz(mask);

	return HEAD_WORD(head) | ((HEAD_TURN(head) - up) & 63) << 4 |
	       (HEAD_MASK(head) << up) << 10;
}

static i32 pair_place(const struct engine *e, i32 c)
{
	return c < 0 ? c : e->thin_place[c];
}

/* Write the nodes that are reached, children first. */
static void write_pairs(struct engine *e, i32 *to)
{
	const i32 *pool = e->thin_pool;
	const i32 *start = to;

	for (u32 i = 0; i < e->n_thin; i++) {
		u32 at = e->thin_nodes[i], n;
		i32 second = e->second[i];

		if (!e->thin_place[at])
			continue;
		n = pair_size(pool, at, second);
		e->thin_place[at] = to - start;
		*to++ = pool[at];
		if (pool[at] >= 0)
			*to++ = second ? head_above(second, HEAD_MASK(pool[at])) : 0;
		for (u32 j = 0; j < n; j++)
			*to++ = pair_place(e, pair_member(pool, at, second, j));
	}
}

static void thin_trees(struct engine *e)
{
	thin_nodes(e);
	for (u32 r = 0; r < e->t.n_roots; r++)
		e->thin_roots[r] = thin_child(e, e->t.roots[r], true);
	for (u32 r = 0; r < e->t.n_state_roots; r++)
		e->thin_state_roots[r] = thin_child(e, e->t.state_roots[r], false);
	e->thin.pool = e->thin_pool;
	e->news = false;
	e->thin_at = e->r.states + e->t.n_pool / 4;
	if (!area_grow(e, &e->pairs, choose_pairs(e) * sizeof(i32)))
		return;
	write_pairs(e, e->pairs.at);
	for (u32 r = 0; r < e->t.n_roots; r++)
		e->thin_roots[r] = pair_place(e, e->thin_roots[r]);
	for (u32 r = 0; r < e->t.n_state_roots; r++)
		e->thin_state_roots[r] = pair_place(e, e->thin_state_roots[r]);
	e->thin.pool = e->pairs.at;
}

/* ---- exploration ---- */

/* Add a state unless it is known, given a likely slot of it. */
static always_inline enum status insert(struct engine *e, const u64 *s, u64 hash, u64 at,
					u32 parent, u32 leaf, unsigned w)
{
	u64 n = e->r.states;
	enum status status;

	if (e->slots) {
		at = find_slot(e, s, hash, at, w);
		if (((u32 *)e->index.at)[at])
			return RUNNING;
	}
	if (n >= e->room) {
		status = make_room(e);
		if (status != RUNNING)
			return status;
		at = find_slot(e, s, hash, likely_slot(e, first_slot(e, hash), hash), w);
	}
	copy_words((u64 *)e->states.at + n * w, s, w);
	parents(e)[n] = parent;
	vias(e)[n] = leaf;
	((u32 *)e->index.at)[at] = slot_tag(e, hash) | (u32)(n + 1);
	__atomic_store_n(&e->r.states, n + 1, __ATOMIC_RELAXED);
	return e->t.n_state_roots ? judge_state(e, n) : RUNNING;
}

/* Find the likely slots of the batch from i on, and fetch the states there. */
static always_inline void find_likely(struct engine *e, u32 i, u32 n, unsigned w)
{
	struct batch *b = &e->batch;

	for (; i < n; i++) {
		u32 slot;

		b->at[i] = likely_slot(e, first_slot(e, b->hash[i]), b->hash[i]);
		slot = ((u32 *)e->index.at)[b->at[i]];
		if (slot)
			__builtin_prefetch((u64 *)e->states.at + slot_state(e, slot) * w);
	}
}

/* Insert the successors that wait in the batch; their slots are on the way. */
static always_inline enum status flush(struct engine *e, unsigned w)
{
	struct batch *b = &e->batch;
	u64 slots = e->slots;
	u32 n = b->n;

	b->n = 0;
	find_likely(e, 0, n, w);
	for (u32 i = 0; i < n; i++) {
		enum status status;

		if (e->slots != slots)
			find_likely(e, i, n, w);
		slots = e->slots;
		status = insert(e, b->words + i * w, b->hash[i], b->at[i], b->parent[i],
				b->leaf[i], w);
		if (status != RUNNING) {
			/* The source of this one is not fully expanded. */
			e->r.expanded = b->parent[i];
			return status;
		}
	}
	return RUNNING;
}

/*
 * Record what a marked leaf says; *drop is set if it has no successor to add.
 * The batch is flushed first, so that hits come in breadth-first order.
 */
static enum status fire_marked(struct engine *e, u32 state, u32 leaf, bool *drop)
{
	u64 mask[2] = {e->t.violations[leaf], e->t.witnesses[leaf]};
	u32 action = e->t.action[leaf];

	if ((mask[0] & ~e->seen[action]) | (mask[1] & ~e->r.witnesses)) {
		enum status status = flush(e, e->t.words);

		if (status != RUNNING)
			return status;
		note_masks(e, mask, action, STEP_HIT, state, leaf);
	}
	for (u32 full = e->t.saturated[leaf]; full; full &= full - 1)
		e->r.saturated[__builtin_ctz(full)]++;
	if (e->t.saturated[leaf] & REPORT && mask[0] & e->o.prune_mask)
		e->muted[action] = state + 1;
	*drop = e->t.saturated[leaf] != 0;
	if (!*drop && mask[0] & e->o.prune_mask) {
		e->r.pruned++;
		*drop = true;
	}
	return RUNNING;
}

static always_inline u64 *recent_place(const struct engine *e, const u64 *s, unsigned w)
{
	return e->recent + (hash_words(s, w) >> 32 & (RECENT - 1)) * w;
}

/*
 * Canonical forms cost more than all else, and often the same successor comes
 * again soon by another order of the same steps.  Such a state is in the set,
 * or in the batch, and there is nothing to do.
 */
static always_inline bool is_recent(const u64 *s, u64 *old, unsigned w)
{

	if (same_words(old, s, w))
		return true;
	copy_words(old, s, w);
	return false;
}

/* Fill the cache with a state that is in the set. */
static void start_recent(struct engine *e)
{
	for (u32 i = 0; i < RECENT; i++)
		copy_words(e->recent + (u64)i * e->t.words, e->states.at, e->t.words);
}

/*
 * Compute successors before they are asked for, so that the places where recent
 * ones may be are on the way; those that cannot be computed are left out.
 */
static always_inline void look_ahead(struct engine *e, const u64 *s, u32 n, unsigned w)
{
	struct ahead *a = &e->ahead;

	a->n = e->o.symmetry ? n < AHEAD ? n : AHEAD : 0;
	for (u32 i = 0; i < a->n; i++) {
		const u64 *row = leaf_row(e, e->fired[i], w);
		u64 *to = a->words + i * w;

		a->known[i] = !ROW_MARKED(row[0]) && apply(e, row, s, to, w);
		if (a->known[i])
			__builtin_prefetch(recent_place(e, to, w), 1);
	}
}

/* The successor by the leaf number i of those that fire; false if it traps. */
static always_inline bool successor(const struct engine *e, const u64 *s, u32 i, u64 *to,
				    unsigned w)
{
	if (i >= e->ahead.n || !e->ahead.known[i])
		return apply(e, leaf_row(e, e->fired[i], w), s, to, w);
	copy_words(to, e->ahead.words + i * w, w);
	return true;
}

/* Enter one successor into the batch, that of the leaf number i of those that fire. */
static always_inline enum status fire(struct engine *e, u32 state, const u64 *s, u32 i, unsigned w)
{
	u32 leaf = e->fired[i];
	const u64 *row = leaf_row(e, leaf, w);
	struct batch *b = &e->batch;
	u64 *to;

	if (ROW_MARKED(row[0])) {
		bool drop;
		enum status status = fire_marked(e, state, leaf, &drop);

		if (status != RUNNING || drop)
			return status;
	}
	if (e->o.prune_mask && e->muted[e->t.action[leaf]] == state + 1) {
		e->r.pruned++;
		return RUNNING;
	}
	to = b->words + b->n * w;
	if (!successor(e, s, i, to, w))
		return trapped(e, TRAP_UPDATE, state, leaf);
	e->r.transitions++;
	if (same_words(to, s, w))
		return RUNNING;
	if (e->o.symmetry) {
		if (is_recent(to, recent_place(e, to, w), w))
			return RUNNING;
		canonical(&e->canon, to, to, w);
	}
	b->hash[b->n] = hash_words(to, w);
	b->parent[b->n] = state;
	b->leaf[b->n] = leaf;
	__builtin_prefetch((u32 *)e->index.at + (b->hash[b->n] & (e->slots - 1)));
	return ++b->n < BATCH ? RUNNING : flush(e, w);
}

static always_inline enum status expand(struct engine *e, u32 state, unsigned w)
{
	enum status status = RUNNING;
	u64 s[MAX_WORDS];
	int n;

	/* A copy, for the array may move while the successors are inserted. */
	copy_words(s, (u64 *)e->states.at + (u64)state * w, w);
	n = walk(e, &e->thin, s, e->fired);
	if (n < 0)
		return trapped(e, TRAP_STEP, state, 0);
	look_ahead(e, s, n, w);
	for (int i = 0; i < n && status == RUNNING; i++)
		status = fire(e, state, s, i, w);
	return status;
}

static always_inline enum status expand_level(struct engine *e, u64 from, u64 to, unsigned w)
{
	enum status status = RUNNING, rest;

	for (u64 i = from; i < to && status == RUNNING; i++) {
		if (__atomic_load_n(&e->r.interrupt, __ATOMIC_RELAXED)) {
			status = INTERRUPTED;
			break;
		}
		if (!(vias(e)[i] & VIA_UNEXPANDED))
			status = expand(e, i, w);
		if (status == RUNNING)
			__atomic_store_n(&e->r.expanded, i + 1, __ATOMIC_RELAXED);
	}
	/* Also after an early stop: all edges of an expanded state have targets. */
	rest = flush(e, w);
	return status == RUNNING ? rest : status;
}

/* With the number of words known, the compiler unrolls what is done per word. */
static enum status expand_level_any(struct engine *e, u64 from, u64 to)
{
	switch (e->t.words) {
	case 1:
		return expand_level(e, from, to, 1);
	case 2:
		return expand_level(e, from, to, 2);
	case 3:
		return expand_level(e, from, to, 3);
	case 4:
		return expand_level(e, from, to, 4);
	default:
		return expand_level(e, from, to, e->t.words);
	}
}

static bool push_level(struct engine *e, u64 size)
{
	if (!area_grow(e, &e->levels, (e->n_levels + 1) * sizeof(u64)))
		return false;
	((u64 *)e->levels.at)[e->n_levels++] = size;
	return true;
}

static enum status insert_initial(struct engine *e, const u64 *initial, u32 n)
{
	enum status status = RUNNING;
	u64 s[MAX_WORDS], hash, at = 0;

	for (u32 i = 0; i < n && status == RUNNING; i++) {
		copy_words(s, initial + (u64)i * e->t.words, e->t.words);
		if (e->o.symmetry)
			canonical(&e->canon, s, s, e->t.words);
		hash = hash_words(s, e->t.words);
		if (e->slots)
			at = likely_slot(e, first_slot(e, hash), hash);
		status = insert(e, s, hash, at, NO_STATE, VIA_INITIAL, e->t.words);
	}
	return status;
}

static enum status explore(struct engine *e, const u64 *initial, u32 n)
{
	enum status status;
	u64 from = 0;

	thin_trees(e);
	status = insert_initial(e, initial, n);

	if (status == RUNNING && e->o.symmetry)
		start_recent(e);
	while (status == RUNNING) {
		u64 to = e->r.states;

		if (!push_level(e, to - from))
			return MEMORY;
		if (from == to) {
			e->n_levels--;
			return COMPLETE;
		}
		__atomic_store_n(&e->r.depth, e->n_levels - 1, __ATOMIC_RELAXED);
		if (e->r.depth >= e->o.max_depth)
			return DEPTH;
		if (e->news && to >= e->thin_at)
			thin_trees(e);
		status = expand_level_any(e, from, to);
		from = to;
	}
	/* What a run that was cut short has found of the next level. */
	if (e->r.states > from && !push_level(e, e->r.states - from))
		return MEMORY;
	return status;
}

/* ---- interface ---- */

#define EXPORT __attribute__((visibility("default")))

EXPORT void shstk_free(struct engine *e);

static void *scratch(struct engine *e, u64 n, size_t size)
{
	e->scratch += n * size;
	return calloc(n ? n : 1, size);
}

EXPORT struct engine *shstk_new(const struct tables *t)
{
	struct engine *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->t = *t;
	e->scratch = sizeof(*e);
	e->hits = scratch(e, (t->n_actions + 1ull) * VIOLATIONS, sizeof(*e->hits));
	e->witness = scratch(e, VIOLATIONS, sizeof(*e->witness));
	e->seen = scratch(e, t->n_actions + 1ull, sizeof(*e->seen));
	e->muted = scratch(e, t->n_actions + 1ull, sizeof(*e->muted));
	e->thin_pool = scratch(e, t->n_pool, sizeof(*e->thin_pool));
	e->thin_place = scratch(e, t->n_pool, sizeof(*e->thin_place));
	e->thin_nodes = scratch(e, t->n_pool, sizeof(*e->thin_nodes));
	e->second = scratch(e, t->n_pool, sizeof(*e->second));
	e->thin_roots = scratch(e, t->n_roots, sizeof(*e->thin_roots));
	e->thin_state_roots = scratch(e, t->n_state_roots, sizeof(*e->thin_state_roots));
	e->recent = scratch(e, (u64)RECENT * t->words, sizeof(*e->recent));
	e->stack = scratch(e, t->stack + 1ull, sizeof(*e->stack));
	e->fired = scratch(e, t->fan + 1ull, sizeof(*e->fired));
	e->reports = scratch(e, t->fan + 1ull, sizeof(*e->reports));
	if (!e->hits || !e->witness || !e->seen || !e->muted || !e->recent || !e->stack ||
	    !e->fired || !e->reports || !e->thin_pool || !e->thin_place || !e->thin_nodes ||
	    !e->second || !e->thin_roots ||
	    !e->thin_state_roots) {
		shstk_free(e);
		return NULL;
	}
	e->whole = (struct trees){t->pool, t->roots, t->state_roots};
	e->thin = (struct trees){e->thin_pool, e->thin_roots, e->thin_state_roots};
	canon_init(&e->canon, t);
	return e;
}

static void forget(struct engine *e)
{
	area_drop(e, &e->states);
	area_drop(e, &e->parent);
	area_drop(e, &e->via);
	area_drop(e, &e->index);
	area_drop(e, &e->levels);
	area_drop(e, &e->pairs);
	e->capacity = e->slots = e->room = e->n_levels = 0;
	e->batch.n = 0;
	memset(&e->r, 0, sizeof(e->r));
	memset(e->hits, 0, (e->t.n_actions + 1ull) * VIOLATIONS * sizeof(*e->hits));
	memset(e->witness, 0, VIOLATIONS * sizeof(*e->witness));
	memset(e->seen, 0, (e->t.n_actions + 1ull) * sizeof(*e->seen));
	memset(e->muted, 0, (e->t.n_actions + 1ull) * sizeof(*e->muted));
	e->r.bytes = e->r.peak = e->scratch;
}

EXPORT void shstk_free(struct engine *e)
{
	if (!e)
		return;
	area_drop(e, &e->states);
	area_drop(e, &e->parent);
	area_drop(e, &e->via);
	area_drop(e, &e->index);
	area_drop(e, &e->levels);
	area_drop(e, &e->pairs);
	free(e->hits);
	free(e->witness);
	free(e->seen);
	free(e->muted);
	canon_free(&e->canon);
	free(e->thin_pool);
	free(e->thin_place);
	free(e->thin_nodes);
	free(e->second);
	free(e->thin_roots);
	free(e->thin_state_roots);
	free(e->recent);
	free(e->stack);
	free(e->fired);
	free(e->reports);
	free(e);
}

/* The fields that Python reads, and the flag that it sets. */
EXPORT struct report *shstk_report(struct engine *e)
{
	return &e->r;
}

/* Forget an earlier run; apart, so that an interrupt in between is not lost. */
EXPORT void shstk_reset(struct engine *e, const struct options *o)
{
	e->o = *o;
	/* State numbers are 32 bits wide and slots hold them plus one. */
	if (e->o.max_states > NO_STATE - 1)
		e->o.max_states = NO_STATE - 1;
	forget(e);
}

EXPORT void shstk_explore(struct engine *e, const u64 *initial, u32 n)
{
	e->r.status = explore(e, initial, n);
}

EXPORT u64 shstk_levels(const struct engine *e, const u64 **levels)
{
	*levels = e->levels.at;
	return e->n_levels;
}

EXPORT const struct hit *shstk_hits(const struct engine *e)
{
	return e->hits;
}

EXPORT const struct hit *shstk_witnesses(const struct engine *e)
{
	return e->witness;
}

EXPORT const u64 *shstk_state(const struct engine *e, u32 state)
{
	return state_at(e, state);
}

EXPORT u32 shstk_parent(const struct engine *e, u32 state)
{
	return parents(e)[state];
}

EXPORT u32 shstk_leaf(const struct engine *e, u32 state)
{
	return vias(e)[state] & ~VIA_UNEXPANDED;
}

EXPORT void shstk_canonical(struct engine *e, const u64 *s, u64 *out)
{
	canonical(&e->canon, s, out, e->t.words);
}

EXPORT u32 shstk_find(struct engine *e, const u64 *s)
{
	u64 form[MAX_WORDS] = {0};

	copy_words(form, s, e->t.words);
	if (e->o.symmetry)
		canonical(&e->canon, form, form, e->t.words);
	return find_state(e, form);
}

EXPORT bool shstk_judge(const struct engine *e, const u64 *s, u64 mask[2])
{
	return judge(e, &e->whole, s, mask);
}

/* The leaves that fire and their successors; -1 if something traps. */
EXPORT int shstk_successors(struct engine *e, const u64 *s, u32 *leaves, u64 *out)
{
	int n = walk(e, &e->whole, s, e->fired), kept = 0;

	for (int i = 0; i < n; i++) {
		u32 leaf = e->fired[i];

		if (e->t.saturated[leaf])
			continue;
		if (!apply(e, leaf_row(e, leaf, e->t.words), s, out, e->t.words))
			return -1;
		leaves[kept++] = leaf;
		out += e->t.words;
	}
	return n < 0 ? -1 : kept;
}

/* Edges of one state as (source, leaf, target); returns the end of the list. */
static u32 *state_edges(struct engine *e, u32 state, u32 *to)
{
	const u64 *s = state_at(e, state);
	int n = walk(e, &e->whole, s, e->fired);
	u64 next[MAX_WORDS];

	for (int i = 0; i < n; i++) {
		u32 leaf = e->fired[i];

		if (e->t.saturated[leaf] || e->t.violations[leaf] & e->o.prune_mask)
			continue;
		apply(e, leaf_row(e, leaf, e->t.words), s, next, e->t.words);
		to[0] = state;
		to[1] = leaf;
		to[2] = shstk_find(e, next);
		to += 3;
	}
	return to;
}

/*
 * Edges of the states from *from on, as many states as surely fit into space
 * for so many edges; returns the number of edges.
 */
EXPORT u32 shstk_edges(struct engine *e, u32 *from, u32 *to, u32 space)
{
	u32 *at = to;

	for (; *from < e->r.expanded && (at - to) / 3 + e->t.fan <= space; ++*from)
		if (!(vias(e)[*from] & VIA_UNEXPANDED))
			at = state_edges(e, *from, at);
	return (at - to) / 3;
}
