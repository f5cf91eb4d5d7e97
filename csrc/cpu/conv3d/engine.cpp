#include <algorithm>
#include <cstddef>
#include <type_traits>
#include <vector>

#include "core/memory.h"
#include "core/parallel.h"
#include "core/scratch.h"
#include "cpu/conv3d/half.h"
#include "cpu/conv3d/layout.h"
#include "cpu/conv3d/moments.h"
#include "cpu/conv3d/tiles.h"

#define OSF_FOREACH_ISA_FILE "cpu/conv3d/engine-inl.h"
#include "simd/foreach_isa.h"

namespace osf::conv3d {
namespace {

constexpr IsaRow<Params> kTable[] = OSF_ISA_TABLE(conv3d, run);

}  // namespace

void run(const Params& p) {
  const bool on_tiles = p.plan.algorithm == Algorithm::kTiles ||
                        p.plan.algorithm == Algorithm::kTilesUpsample ||
                        p.plan.algorithm == Algorithm::kTilesNarrow;
  check(p.mean == nullptr || !upsamples(p.geometry),
        "conv3d: an activation before an upsampling is not folded in");
  if (p.batch == 0) return;
  advise_huge_pages(p.y, p.batch * p.out_size[0] * p.out_size[1] * p.out_size[2] *
                             p.geometry.out_channels * bytes_of(p.geometry.dtype));
  if (on_tiles) return run_tiles(p);
  if (p.plan.algorithm == Algorithm::kWinogradHalf) return run_half(p);
  run_on(p.plan.isa, kTable, p, "conv3d");
}

}  // namespace osf::conv3d
