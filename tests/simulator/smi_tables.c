/* SPDX-License-Identifier: GPL-3.0-or-later
 * Copyright (c) 2026 gpufleet.mig maintainers
 *
 * The tables of nvidia-smi mig, column for column as published listings of R550 and newer show them. */
#include "smi.h"
#include <stdio.h>

static void rule(unsigned width, char mark, char end)
{
    putchar(end);
    while (width--) putchar(mark);
    printf("%c\n", end);
}
/* The head before the first row; lines are padded to the table's width. */
static void head(bool first, int width, const char *const *lines)
{
    if (!first) return;
    rule((unsigned)width, '-', '+');
    for (; *lines; lines++) printf("| %-*s|\n", width - 1, *lines);
    rule((unsigned)width, '=', '|');
}

enum { PROFILES = 79, INSTANCES = 57, COMPUTES = 68, COMPUTE_PROFILES = 86 };

void smi_profile_row(bool first, unsigned gpu, const smi_profile_info *info, unsigned room)
{
    static const char *const lines[] = {
        "GPU instance profiles:",
        "GPU   Name               ID    Instances   Memory     P2P    SM    DEC   ENC",
        "                               Free/Total   GiB              CE    JPEG  OFA", NULL};
    head(first, PROFILES, lines);
    printf("|%4u  %-19s%3u     %u/%u        %-6.2f     %-3s    %-3u    %u     %u   |\n", gpu, info->name, info->id, room,
           info->instanceCount, (double)info->memorySizeMB / 1024, info->isP2pSupported ? "Yes" : "No",
           info->multiprocessorCount, info->decoderCount, info->encoderCount);
    printf("|%63s%-2u    %u     %u   |\n", "", info->copyEngineCount, info->jpegCount, info->ofaCount);
    rule(PROFILES, '-', '+');
}

void smi_instance_row(bool first, unsigned gpu, const char *name, const nvmlGpuInstanceInfo_t *info)
{
    static const char *const lines[] = {
        "GPU instances:",
        "GPU   Name               Profile  Instance   Placement",
        "                           ID       ID       Start:Size", NULL};
    head(first, INSTANCES, lines);
    printf("|%4u  %-21s%3u%9u%11u:%-6u|\n", gpu, name, info->profileId, info->id, info->placement.start, info->placement.size);
    rule(INSTANCES, '-', '+');
}

void smi_compute_row(bool first, unsigned gpu, unsigned instance, const char *name, const nvmlComputeInstanceInfo_t *info)
{
    static const char *const lines[] = {
        "Compute instances:",
        "GPU     GPU       Name             Profile   Instance   Placement",
        "      Instance                       ID        ID       Start:Size",
        "        ID", NULL};
    head(first, COMPUTES, lines);
    printf("|%4u%7u       %-20s%2u%10u%11u:%-6u|\n", gpu, instance, name, info->profileId, info->id, info->placement.start,
           info->placement.size);
    rule(COMPUTES, '-', '+');
}

void smi_compute_profile_row(bool first, unsigned gpu, unsigned instance, const smi_compute_info *kind, unsigned room, bool whole)
{
    static const char *const lines[] = {
        "Compute instance profiles:",
        "GPU     GPU       Name             Profile  Instances   Exclusive       Shared",
        "      Instance                       ID     Free/Total     SM       DEC   ENC   OFA",
        "        ID                                                          CE    JPEG", NULL};
    head(first, COMPUTE_PROFILES, lines);
    printf("|%4u%7u       %-20s%2u%c     %u/%u           %-3u       %u     %u     %u   |\n", gpu, instance, kind->name, kind->id,
           whole ? '*' : ' ', room, kind->instanceCount, kind->multiprocessorCount, kind->sharedDecoderCount,
           kind->sharedEncoderCount, kind->sharedOfaCount);
    printf("|%70s%-2u    %u         |\n", "", kind->sharedCopyEngineCount, kind->sharedJpegCount);
    rule(COMPUTE_PROFILES, '-', '+');
}
