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
#define VIOLATIONS 64
#define SATURATIONS 32
/* A leaf that only reports what a step violates; its bit in saturated[]. */
#define REPORT (1u << 31)

/* Children of a node: offsets, these two, or LAST_END - number of a leaf. */
#define CHILD_TRAP (-2)
#define LAST_END (-3)

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
	u32 words, n_roots, n_state_roots, n_actions, stack, fan;
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

struct canon {
	struct kind task, group, mapping;
	u32 ids[SORTS], words;
	/* No names but those of the extra constants. */
	struct names blank;
	/* Whether other records than tasks refer to anything, mappings to addresses. */
	bool inner_refs, maps_to_addrs;

	/* The state at hand. */
	u64 rec[MAX_IDS], key[MAX_IDS], group_rec[MAX_IDS];
	u64 map_rec[MAX_IDS][MAX_IDS];
	/* Ids that group and mapping records refer to. */
	u32 inner[SORTS];
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

struct batch {
	u32 n;
	u32 parent[BATCH], leaf[BATCH];
	u64 hash[BATCH];
	u64 words[BATCH * MAX_WORDS];
};

struct engine {
	struct tables t;
	struct options o;
	struct report r;
	struct area states, parent, via, index, levels;
	u64 capacity, slots, room, n_levels;
	size_t scratch;
	struct hit *hits, *witness;
	u64 *seen, *recent;
	/* Per action, the last state (plus one) in which it is pruned away. */
	u32 *muted;
	i32 *stack;
	u32 *fired;
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

/* The child that the node at offset c has for the state. */
static always_inline i32 test_child(const i32 *pool, i32 c, const u64 *s)
{
	u32 head = pool[c];
	u64 value = s[head & 15] >> (head >> 4 & 63);

	return pool[c + 1 + (value & ((1u << (head >> 10)) - 1))];
}

/* List the leaves that fire in a state, in order; -1 if a node traps. */
static int walk(const struct engine *e, const u64 *s, u32 *fired)
{
	const i32 *pool = e->t.pool;
	int n = 0;

	for (u32 r = 0; r < e->t.n_roots; r++) {
		i32 c = e->t.roots[r];
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
			if (c <= LAST_END)
				fired[n++] = LAST_END - c;
			else if (c == CHILD_TRAP)
				return -1;
			if (!top)
				break;
			c = e->stack[--top];
		}
	}
	return n;
}

/* The state predicates that hold; false if a node traps. */
static bool judge(const struct engine *e, const u64 *s, u64 mask[2])
{
	mask[0] = mask[1] = 0;
	for (u32 r = 0; r < e->t.n_state_roots; r++) {
		i32 c = e->t.state_roots[r];

		while (c >= 0)
			c = test_child(e->t.pool, c, s);
		if (c == CHILD_TRAP)
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

	for (u32 i = 0; i < k->n_refs; i++) {
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

/* Sort the tasks by key; returns whether there are ties. */
static bool sort_tasks(struct canon *c)
{
	bool tie = false;

	for (u32 i = 0; i < c->task.count; i++) {
		u64 key = c->key[i];
		u32 j = i;

		for (; j && c->key[c->order[j - 1]] > key; j--)
			c->order[j] = c->order[j - 1];
		tie |= j && c->key[c->order[j - 1]] == key;
		c->order[j] = i;
	}
	return tie;
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
	for (u32 i = 0; i < c->group.count; i++)
		c->group_rec[i] = record(s, &c->group, i);
	for (u32 m = 0; m < c->ids[MM]; m++)
		for (u32 a = 0; a < c->ids[ADDR]; a++)
			c->map_rec[m][a] = record(s, &c->mapping, at++);
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

static void canonical(struct canon *c, const u64 *s, u64 *out)
{
	u32 held[SORTS];

	c->none = true;
	load_state(c, s);
	if (c->inner_refs)
		note_inner_refs(c);
	if (sort_tasks(c)) {
		memcpy(held, c->inner, sizeof(held));
		for (u32 i = 0; i < c->task.count; i++)
			note_refs(c, &c->task, c->rec[i], held);
		find_ties(c, held[TASK]);
		permute(c);
	} else {
		try_order(c);
	}
	copy_words(out, c->best, c->words);
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
	for (u32 i = 0; i < k->n_refs; i++, from += 4)
		load_ref(k, &k->ref[i], from);
	for (u32 i = 0; i < k->count; i++, from += 2) {
		k->word[i] = from[0];
		k->shift[i] = from[1];
	}
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
}

/* ---- the set of states ---- */

/* The slot of a state, or the empty slot where it belongs. */
static always_inline u64 find_slot(const struct engine *e, const u64 *s, u64 hash, unsigned w)
{
	const u32 *index = e->index.at;
	const u64 *states = e->states.at;
	u64 at = hash & (e->slots - 1);

	while (index[at] && !same_words(states + (u64)(index[at] - 1) * w, s, w))
		at = (at + 1) & (e->slots - 1);
	return at;
}

static u32 find_state(const struct engine *e, const u64 *s)
{
	unsigned w = e->t.words;

	if (!e->slots)
		return NO_STATE;
	return ((u32 *)e->index.at)[find_slot(e, s, hash_words(s, w), w)] - 1;
}

/* Enter all states into an empty index, in blocks so that misses overlap. */
static void fill_index(struct engine *e)
{
	u32 *index = e->index.at;
	u64 mask = e->slots - 1;
	u64 hash[BATCH];

	for (u64 from = 0; from < e->r.states; from += BATCH) {
		u64 n = e->r.states - from < BATCH ? e->r.states - from : BATCH;

		for (u64 i = 0; i < n; i++) {
			hash[i] = hash_words(state_at(e, from + i), e->t.words);
			__builtin_prefetch(index + (hash[i] & mask), 1);
		}
		for (u64 i = 0; i < n; i++) {
			u64 at = hash[i] & mask;

			while (index[at])
				at = (at + 1) & mask;
			index[at] = from + i + 1;
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
static enum status judge_state(struct engine *e, u32 state)
{
	u32 leaf = vias(e)[state], action = e->t.n_actions;
	u64 mask[2];

	if (!judge(e, state_at(e, state), mask))
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

/* ---- exploration ---- */

/* Add a state unless it is known. */
static always_inline enum status insert(struct engine *e, const u64 *s, u64 hash, u32 parent,
					u32 leaf, unsigned w)
{
	u64 at = e->slots ? find_slot(e, s, hash, w) : 0;
	u64 n = e->r.states;
	enum status status;

	if (e->slots && ((u32 *)e->index.at)[at])
		return RUNNING;
	if (n >= e->room) {
		status = make_room(e);
		if (status != RUNNING)
			return status;
		at = find_slot(e, s, hash, w);
	}
	copy_words((u64 *)e->states.at + n * w, s, w);
	parents(e)[n] = parent;
	vias(e)[n] = leaf;
	((u32 *)e->index.at)[at] = n + 1;
	__atomic_store_n(&e->r.states, n + 1, __ATOMIC_RELAXED);
	return e->t.n_state_roots ? judge_state(e, n) : RUNNING;
}

/* Insert the successors that wait in the batch; their slots are on the way. */
static always_inline enum status flush(struct engine *e, unsigned w)
{
	struct batch *b = &e->batch;
	const u32 *index = e->index.at;
	u32 n = b->n;

	b->n = 0;
	for (u32 i = 0; i < n; i++) {
		u32 slot = index[b->hash[i] & (e->slots - 1)];

		if (slot)
			__builtin_prefetch((u64 *)e->states.at + (u64)(slot - 1) * w);
	}
	for (u32 i = 0; i < n; i++) {
		enum status status = insert(e, b->words + i * w, b->hash[i], b->parent[i],
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

/*
 * Canonical forms cost more than all else, and often the same successor comes
 * again soon by another order of the same steps.  Such a state is in the set,
 * or in the batch, and there is nothing to do.
 */
static always_inline bool is_recent(struct engine *e, const u64 *s, unsigned w)
{
	u64 *old = e->recent + (hash_words(s, w) >> 32 & (RECENT - 1)) * w;

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

/* Compute one successor into the batch. */
static always_inline enum status fire(struct engine *e, u32 state, const u64 *s, u32 leaf,
				      unsigned w)
{
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
	if (!apply(e, row, s, to, w))
		return trapped(e, TRAP_UPDATE, state, leaf);
	e->r.transitions++;
	if (same_words(to, s, w))
		return RUNNING;
	if (e->o.symmetry) {
		if (is_recent(e, to, w))
			return RUNNING;
		canonical(&e->canon, to, to);
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
	n = walk(e, s, e->fired);
	if (n < 0)
		return trapped(e, TRAP_STEP, state, 0);
	for (int i = 0; i < n && status == RUNNING; i++)
		status = fire(e, state, s, e->fired[i], w);
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
	u64 s[MAX_WORDS];

	for (u32 i = 0; i < n && status == RUNNING; i++) {
		copy_words(s, initial + (u64)i * e->t.words, e->t.words);
		if (e->o.symmetry)
			canonical(&e->canon, s, s);
		status = insert(e, s, hash_words(s, e->t.words), NO_STATE, VIA_INITIAL,
				e->t.words);
	}
	return status;
}

static enum status explore(struct engine *e, const u64 *initial, u32 n)
{
	enum status status = insert_initial(e, initial, n);
	u64 from = 0;

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
	e->recent = scratch(e, (u64)RECENT * t->words, sizeof(*e->recent));
	e->stack = scratch(e, t->stack + 1ull, sizeof(*e->stack));
	e->fired = scratch(e, t->fan + 1ull, sizeof(*e->fired));
	if (!e->hits || !e->witness || !e->seen || !e->muted || !e->recent || !e->stack ||
	    !e->fired) {
		shstk_free(e);
		return NULL;
	}
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
	free(e->hits);
	free(e->witness);
	free(e->seen);
	free(e->muted);
	free(e->recent);
	free(e->stack);
	free(e->fired);
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
	canonical(&e->canon, s, out);
}

EXPORT u32 shstk_find(struct engine *e, const u64 *s)
{
	u64 form[MAX_WORDS];

	copy_words(form, s, e->t.words);
	if (e->o.symmetry)
		canonical(&e->canon, form, form);
	return find_state(e, form);
}

EXPORT bool shstk_judge(const struct engine *e, const u64 *s, u64 mask[2])
{
	return judge(e, s, mask);
}

/* The leaves that fire and their successors; -1 if something traps. */
EXPORT int shstk_successors(struct engine *e, const u64 *s, u32 *leaves, u64 *out)
{
	int n = walk(e, s, e->fired), kept = 0;

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
	int n = walk(e, s, e->fired);
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
