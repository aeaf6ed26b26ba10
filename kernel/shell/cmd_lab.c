// `lab`: experiments that the kernel makes on itself (contract/lab.h), and the tables that they
// print.
//
// Context: thread.
#include <lib/errno.h>
#include <lib/format.h>
#include <lib/string.h>
#include <contract/command.h>
#include <contract/lab.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <sched/cputime.h>
#include <fs/vfs.h>

LINKER_SET(lab, lab);

// ---- tables ------------------------------------------------------------------------------------

static void lab_cell(struct shell *sh, const struct lab_column *column, const char *text)
{
    bool last = column[1].title == NULL;

    if (column->width >= 0) {
        shell_printf(sh, "%*s", column->width, text);
    } else {
        shell_printf(sh, "%-*s", last ? 0 : -column->width, text);
    }
    shell_printf(sh, "%s", last ? "\n" : " ");
}

void lab_table(struct shell *sh, const struct lab_column *columns)
{
    for (; columns->title != NULL; columns++) {
        lab_cell(sh, columns, columns->title);
    }
}

void lab_row(struct shell *sh, const struct lab_column *columns, const char *const *cells)
{
    for (; columns->title != NULL; columns++) {
        lab_cell(sh, columns, *cells++);
    }
}

const char *lab_us(char cell[LAB_CELL_SIZE], uint64_t ns)
{
    snprintf(cell, LAB_CELL_SIZE, "%llu.%02llu", (unsigned long long)(ns / 1000),
             (unsigned long long)(ns % 1000 / 10));
    return cell;
}

uint64_t lab_busy_ns(void)
{
    uint64_t idle = 0;

    for_each_online_cpu (cpu) {
        idle += sched_cpu_time_ns(cpu, CPU_IDLE) + sched_cpu_time_ns(cpu, CPU_IOWAIT);
    }
    return clock_ns() * cpumask_weight(&cpu_online_mask) - idle;
}

int lab_proc_number(const char *path, const char *name, uint64_t *number)
{
    char text[512];
    struct file *file;
    int error = vfs_open(path, OPEN_READ, &file);

    if (error != 0) {
        return error;
    }
    long length = vfs_read(file, text, sizeof(text) - 1);
    vfs_close(file);
    if (length < 0) {
        return (int)length;
    }
    text[length] = '\0';
    const char *at = strstr(text, name);
    if (at == NULL) {
        return -ENOENT;
    }
    *number = 0;
    for (at += strlen(name); *at >= '0' && *at <= '9'; at++) {
        *number = *number * 10 + (uint64_t)(*at - '0');
    }
    return 0;
}

void lab_sample_cells(struct lab_sample_cells *cells, const struct samples *samples)
{
    static const unsigned ranks[LAB_SAMPLE_CELLS] = {0, 500, 990, 1000};

    for (unsigned i = 0; i < LAB_SAMPLE_CELLS; i++) {
        if (samples->count == 0) {
            strscpy(cells->text[i], "-", LAB_CELL_SIZE);
        } else {
            lab_us(cells->text[i], samples_rank(samples, ranks[i]));
        }
    }
}

// ---- the command -------------------------------------------------------------------------------

static int lab_list(struct shell *sh)
{
    static const struct lab_column columns[] = {
        {"lab", -15}, {"arguments", -24}, {"what it shows", -1}, {NULL, 0}};
    const struct lab *lab = NULL;

    lab_table(sh, columns);
    while ((lab = set_next_by_name(lab, lab != NULL ? lab->name : "")) != NULL) {
        lab_row(sh, columns, (const char *const[]){lab->name, lab->usage, lab->help});
    }
    return 0;
}

static int cmd_lab(struct shell *sh, int argc, char **argv)
{
    if (argc == 1) {
        return lab_list(sh);
    }
    const struct lab *lab = set_find_by_name(lab, argv[1]);
    if (lab == NULL) {
        return shell_error(sh, "%s: no such lab (lab alone lists them)", argv[1]);
    }
    return lab->run(sh, argc - 1, argv + 1);
}

COMMAND("lab", cmd_lab, "lab [NAME [ARGUMENT...]]",
        "experiments: what an interrupt costs, and every way of deferring\n"
        "alone it lists them");
