/*
 * The traced tasks and the tracer.
 *
 * The tracer reads cases (see README.md), and for each step sets registers and memory of a
 * traced task, lets it execute one instruction, and reports what became of it.
 */
#ifndef GUEST_H
#define GUEST_H

#include "sys.h"

/* What a page is, from the task's point of view. */
enum kind { RW, RO, NONE, SHADOW, FROZEN, USED, CODE, KINDS };

struct page {
	u64 addr;
	enum kind kind;
	u64 group;		/* cases look at the pages of one group */
	int joined;		/* belongs to the same mapping as the page before it */
	int touched;		/* it is not, or may not be, all background */
	u64 *before;		/* its contents when the tracer last looked */
	u64 *now;
};

/* Shadow stacks off; on; on, and WRSS with them. */
enum mode { OFF, SHSTK, WRSS, MODES };

#define MAX_PAGES 96
#define WORDS (PAGE_SIZE / sizeof(u64))
#define ALL ~0ul		/* every group */

struct layout {
	struct page pages[MAX_PAGES];
	int count;
	u64 background;		/* every word of every page, to begin with */
};

#define FLAGS 0x202		/* interrupts on, nothing else */

struct registers {		/* struct user_regs_struct */
	u64 r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8;
	u64 rax, rcx, rdx, rsi, rdi, orig_rax, rip, cs, eflags, rsp, ss;
	u64 fs_base, gs_base, ds, es, fs, gs;
};

/* What became of a step.  Numbers that are no signals. */
enum { DONE = 0, GONE = -1, STUCK = -2, CHANGED = -3 };

struct fault {
	int signal, code;
	u64 vector, error, address;
};

struct task {
	int pid;
	int memory;		/* /proc/PID/mem */
	enum mode mode;
	u64 group;		/* of the case */
	struct registers regs;
	u64 ssp, last_ssp;	/* to be, or as it was at the last stop */
	int readable;		/* SSP can be read: shadow stacks are on */
	u64 safe_ssp, safe_rsp;	/* where a signal frame can be put */
	u64 mapped, mapped_size;	/* by map_shadow_stack, in this case */
};

extern struct layout layout;
extern u64 case_number, step_number;
extern const char *const mode_names[MODES];

/* layout.c */
void add_page(u64 addr, enum kind kind, u64 group, int joined);
int looked_at(const struct page *page, u64 group);
enum kind kind_called(const char *word);
struct page *page_at(u64 addr);
void map_code(void);

/* child.c */
_Noreturn void child(enum mode mode);
void catch_signal(int signal, const char *by);
extern const char handler[], restorer[], interrupted[];

/* trace.c */
extern u64 patience;
void start(struct task *task, enum mode mode);
int get_state(struct task *task);
int set_state(struct task *task);
int step(struct task *task, struct fault *fault);
long call_in(struct task *task, long nr, u64 a, u64 b, u64 c);

/* memory.c */
void open_memory(struct task *task);
void fill(struct page *page);
void write_page(struct task *task, struct page *page);
int poke(struct task *task, u64 addr, u64 value);
void look(struct task *task, u64 group);
void restore(struct task *task);

/* text.c */
void text_open(const char *path);
int next_line(void);
const char *next_word(void);
u64 number(const char *word);
int bytes(const char *word, unsigned char *to, int room);
char *assigned(char *word);

/* out.c */
void out_to_stdout(void);
void put(const char *text);
void put_number(u64 value);
void put_name(const char *name, u64 value);
void flush(void);

#endif
